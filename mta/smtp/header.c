/* header: to come */
