/* queue: to come */
