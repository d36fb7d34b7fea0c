/* writer: to come */
