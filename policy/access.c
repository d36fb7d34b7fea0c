/* access: to come */
