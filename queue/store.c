/* store: to come */
