/* command: to come */
