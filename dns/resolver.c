/* resolver: to come */
