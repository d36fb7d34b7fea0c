/* answer: to come */
