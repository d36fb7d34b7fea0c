/* lookup: to come */
