/* mx: to come */
