/* data: to come */
