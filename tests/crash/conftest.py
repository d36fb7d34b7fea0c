"""Its own place on the path (load.py); the fixtures stand in tests/conftest.py."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
