/* schedule: to come */
