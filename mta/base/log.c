/* log: to come */
