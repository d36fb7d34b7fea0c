/* record: to come */
