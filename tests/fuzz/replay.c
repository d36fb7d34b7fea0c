/* replay: runs a fuzz target over the files of its corpus, where there is no libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	static uint8_t bytes[1 << 20];
	uint8_t *exact;
	size_t len;

	if (f == NULL)
		return;
	len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	exact = malloc(len ? len : 1);		/* so that a sanitizer sees the end */
	for (size_t i = 0; i < len; i++)
		exact[i] = bytes[i];
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

int
main(int argc, char **argv)
{
	unsigned files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *entry;

		if (dir == NULL) {
			fprintf(stderr, "replay: no corpus at %s\n", argv[i]);
			return 1;
		}
		while ((entry = readdir(dir)) != NULL) {
			char path[4096];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			replay_file(path);
			files++;
		}
		closedir(dir);
	}
	printf("replayed %u files\n", files);
	return files == 0;
}
