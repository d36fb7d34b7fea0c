/* address: to come */
