/*
 * texts: see texts.h. The status agrees with the class of the code; tests/unit/test_command.c sees
 * to it.
 */
#include "mta/smtp/texts.h"

#define TEXT(code_, k, s, d, text_) { (code_), { (k), (s), (d) }, { text_, sizeof(text_) - 1 } }

const struct reply smtp_texts[TEXT_COUNT] = {
	[TEXT_BYE] = TEXT(221, 2, 0, 0, "closing the connection"),
	[TEXT_GO_AHEAD] = TEXT(354, 0, 0, 0, "end the message with <CR><LF>.<CR><LF>"),
	[TEXT_HELP] = TEXT(214, 2, 0, 0, "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP "
					 "QUIT\nRFC 5321 and what EHLO lists"),
	[TEXT_MAIL_OK] = TEXT(250, 2, 1, 0, "sender ok"),
	[TEXT_MESSAGE_OK] = TEXT(250, 2, 0, 0, "message accepted"),
	[TEXT_CHUNK_OK] = TEXT(250, 2, 0, 0, "chunk received"),
	[TEXT_NOOP_OK] = TEXT(250, 2, 0, 0, "ok"),
	[TEXT_RCPT_OK] = TEXT(250, 2, 1, 5, "recipient ok"),
	[TEXT_RSET_OK] = TEXT(250, 2, 0, 0, "reset"),
	[TEXT_TLS_READY] = TEXT(220, 2, 0, 0, "ready to start TLS"),
	[TEXT_VRFY] = TEXT(252, 2, 0, 0, "not verified: send the message and see"),

	[TEXT_EARLY_DATA] = TEXT(554, 5, 5, 1, "data was sent before the go-ahead (354)"),
	[TEXT_EARLY_TALK] = TEXT(554, 5, 5, 1, "the client must wait for the greeting"),
	[TEXT_NOT_SMTP] = TEXT(554, 5, 5, 1, "this is an SMTP server"),
	[TEXT_TOO_MANY_ERRORS] = TEXT(421, 4, 7, 0, "too many errors"),
	[TEXT_TOO_MANY_MESSAGES] = TEXT(421, 4, 7, 0,
					"too many messages in one session: connect again"),
	[TEXT_BARE_NEWLINE_COMMAND] = TEXT(550, 5, 5, 2,
					   "a command line must end in <CR><LF>: a bare <CR> or "
					   "<LF> is refused"),
	[TEXT_ENDLESS_LINE] = TEXT(500, 5, 5, 2, "the line does not end"),
	[TEXT_ENDLESS_MESSAGE] = TEXT(552, 5, 3, 4, "the message is far too large"),
	[TEXT_BDAT_SYNTAX] = TEXT(501, 5, 5, 4, "use BDAT <octets> [LAST]"),

	[TEXT_HELO_FIRST] = TEXT(503, 5, 5, 1, "say EHLO or HELO first"),
	[TEXT_MAIL_FIRST] = TEXT(503, 5, 5, 1, "say MAIL first"),
	[TEXT_MAIL_OPEN] = TEXT(503, 5, 5, 1, "a sender was given already: RSET begins anew"),
	[TEXT_NO_RECIPIENTS] = TEXT(554, 5, 5, 1, "no valid recipients"),
	[TEXT_BDAT_OPEN] = TEXT(503, 5, 5, 1, "a message has begun: go on with BDAT, or RSET"),
	[TEXT_BDAT_FAILED] = TEXT(503, 5, 5, 1, "an earlier chunk was refused: RSET begins anew"),
	[TEXT_BDAT_FOR_BINARY] = TEXT(503, 5, 5, 1, "a BINARYMIME message must come by BDAT"),
	[TEXT_TLS_ACTIVE] = TEXT(503, 5, 5, 1, "TLS is active already"),
	[TEXT_TLS_ORDER] = TEXT(503, 5, 5, 1, "STARTTLS comes after EHLO and before MAIL"),
	[TEXT_AUTH_REQUIRED] = TEXT(530, 5, 7, 0, "log in first (AUTH)"),
	[TEXT_AUTH_NEEDS_TLS] = TEXT(538, 5, 7, 11,
				     "AUTH is for encrypted sessions: say STARTTLS first"),
	[TEXT_AUTH_DONE] = TEXT(503, 5, 5, 1, "you are logged in already"),
	[TEXT_AUTH_ORDER] = TEXT(503, 5, 5, 1, "AUTH comes after EHLO and before MAIL"),
	[TEXT_AUTH_TOO_LONG] = TEXT(500, 5, 5, 6, "the line is too long"),
	[TEXT_AUTH_PARAMETER_SYNTAX] = TEXT(501, 5, 5, 4, "use AUTH=<> or AUTH=<address in xtext>"),
	[TEXT_TLS_REQUIRED] = TEXT(530, 5, 7, 0, "say STARTTLS first"),

	[TEXT_UNKNOWN] = TEXT(500, 5, 5, 1, "command not recognised"),
	[TEXT_NOT_IMPLEMENTED] = TEXT(502, 5, 5, 1, "command not implemented"),
	[TEXT_CONTROL_OCTET] = TEXT(500, 5, 5, 2, "control character in a command"),
	[TEXT_LINE_TOO_LONG] = TEXT(500, 5, 5, 2, "command line too long"),
	[TEXT_NO_ARGUMENT] = TEXT(501, 5, 5, 4, "this command has no argument"),
	[TEXT_NEEDS_ARGUMENT] = TEXT(501, 5, 5, 4, "this command needs an argument"),
	[TEXT_HELO_NAME] = TEXT(501, 5, 5, 4, "a host name or an address in brackets is needed"),
	[TEXT_MAIL_SYNTAX] = TEXT(501, 5, 5, 2, "use MAIL FROM:<address> [parameters]"),
	[TEXT_RCPT_SYNTAX] = TEXT(501, 5, 5, 2, "use RCPT TO:<address> [parameters]"),

	[TEXT_SENDER_SYNTAX] = TEXT(501, 5, 1, 7, "bad sender address"),
	[TEXT_RECIPIENT_SYNTAX] = TEXT(501, 5, 1, 3, "bad recipient address"),
	[TEXT_SENDER_TOO_LONG] = TEXT(501, 5, 1, 7, "sender address too long"),
	[TEXT_RECIPIENT_TOO_LONG] = TEXT(501, 5, 1, 3, "recipient address too long"),
	[TEXT_SENDER_NO_DOMAIN] = TEXT(501, 5, 1, 7, "the sender address needs a domain"),
	[TEXT_RECIPIENT_NO_DOMAIN] = TEXT(501, 5, 1, 3, "the recipient address needs a domain"),
	[TEXT_SENDER_BAD_UTF8] = TEXT(501, 5, 1, 7, "the sender address is not UTF-8"),
	[TEXT_RECIPIENT_BAD_UTF8] = TEXT(501, 5, 1, 3, "the recipient address is not UTF-8"),
	[TEXT_NEEDS_UTF8] = TEXT(553, 5, 6, 7, "an address beyond ASCII needs SMTPUTF8"),

	[TEXT_PARAMETER_UNKNOWN] = TEXT(555, 5, 5, 4, "unknown parameter"),
	[TEXT_PARAMETER_TWICE] = TEXT(501, 5, 5, 4, "a parameter was given twice"),
	[TEXT_PARAMETER_NEEDS_EHLO] = TEXT(555, 5, 5, 4, "parameters need EHLO"),
	[TEXT_SIZE_SYNTAX] = TEXT(501, 5, 5, 4, "use SIZE=<octets>"),
	[TEXT_BODY_SYNTAX] = TEXT(501, 5, 5, 4, "use BODY=7BIT or BODY=8BITMIME"),
	[TEXT_BODY_BINARY] = TEXT(555, 5, 5, 4, "BINARYMIME is not offered"),
	[TEXT_UTF8_SYNTAX] = TEXT(501, 5, 5, 4, "SMTPUTF8 has no value"),
	[TEXT_REQUIRETLS_SYNTAX] = TEXT(501, 5, 5, 4, "REQUIRETLS has no value"),
	[TEXT_PRIORITY_SYNTAX] = TEXT(501, 5, 5, 4, "MT-PRIORITY must be from -9 to 9"),
	[TEXT_HOLD_SYNTAX] = TEXT(501, 5, 5, 4, "give seconds to HOLDFOR, or a time like "
						"2026-11-21T08:00:00Z to HOLDUNTIL"),
	[TEXT_HOLD_TOO_LONG] = TEXT(501, 5, 5, 4, "the message cannot be held for so long"),
	[TEXT_HOLD_BEYOND_BY] = TEXT(501, 5, 5, 4,
				     "the message would be held beyond the time that BY asks for"),
	[TEXT_BY_SYNTAX] = TEXT(501, 5, 5, 4, "BY must be seconds;R or seconds;N"),
	[TEXT_BY_TOO_SOON] = TEXT(555, 5, 5, 4, "the message cannot be sure to be there so soon"),
	[TEXT_REQUIRETLS_NEEDS_TLS] = TEXT(550, 5, 7, 10,
					   "REQUIRETLS needs TLS: say STARTTLS first"),
	[TEXT_RET_SYNTAX] = TEXT(501, 5, 5, 4, "use RET=FULL or RET=HDRS"),
	[TEXT_ENVID_SYNTAX] = TEXT(501, 5, 5, 4, "ENVID must be 1 to 100 characters of xtext"),
	[TEXT_NOTIFY_SYNTAX] = TEXT(501, 5, 5, 4,
				    "use NOTIFY=NEVER or a list of SUCCESS, FAILURE and DELAY"),
	[TEXT_ORCPT_SYNTAX] = TEXT(501, 5, 5, 4, "use ORCPT=<type>;<address in xtext>"),

	[TEXT_TOO_MANY_RECIPIENTS] = TEXT(452, 4, 5, 3,
					  "too many recipients: send the rest in another "
					  "transaction"),
	[TEXT_TOO_LARGE] = TEXT(552, 5, 3, 4, "message too large"),
	[TEXT_BARE_NEWLINE] = TEXT(550, 5, 5, 2,
				   "the message has a bare <CR> or <LF>: lines must end in "
				   "<CR><LF>"),
	[TEXT_NUL] = TEXT(550, 5, 5, 2, "the message has a NUL octet"),
	[TEXT_LONG_LINE] = TEXT(500, 5, 2, 3, "the message has a line that is too long"),
};
