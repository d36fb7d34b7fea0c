/* server: to come */
