/* reply: to come */
