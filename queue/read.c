/* read: to come */
