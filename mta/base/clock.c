/* clock: to come */
