/* client: to come */
