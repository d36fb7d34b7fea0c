/* route: to come */
