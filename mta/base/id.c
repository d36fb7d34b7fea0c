/* id: to come */
