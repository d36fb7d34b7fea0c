/* reply_parser: to come */
