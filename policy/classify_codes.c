/*
 * classify_codes: what the codes of a reply say, where no rule knows its words: the enhanced code
 * first (RFC 3463, RFC 5248 and its registry), then the basic one by the stage it came at.
 */
#include "policy/classify_private.h"

static const struct { uint16_t subject, detail; enum reply_class class;
} by_status[] = {
	{ 1, 1, CLASS_BAD_MAILBOX },	    { 1, 2, CLASS_BAD_DOMAIN },
	{ 1, 3, CLASS_BAD_MAILBOX },	    { 1, 4, CLASS_BAD_MAILBOX },
	{ 1, 6, CLASS_INACTIVE_MAILBOX },   { 1, 7, CLASS_INVALID_SENDER },
	{ 1, 8, CLASS_INVALID_SENDER },	    { 1, 10, CLASS_BAD_DOMAIN },
	{ 2, 1, CLASS_INACTIVE_MAILBOX },   { 2, 2, CLASS_QUOTA_ISSUES },
	{ 2, 3, CLASS_TOO_BIG },	    { 3, 1, CLASS_TRANSIENT_FAILURE },
	{ 3, 2, CLASS_TRANSIENT_FAILURE },  { 3, 3, CLASS_PROTOCOL_ERRORS },
	{ 3, 4, CLASS_TOO_BIG },	    { 3, 5, CLASS_BAD_CONFIGURATION },
	{ 4, 1, CLASS_NO_ANSWER },	    { 4, 2, CLASS_BAD_CONNECTION },
	{ 4, 3, CLASS_DNS_FAILURE },	    { 4, 4, CLASS_ROUTING_ERRORS },
	{ 4, 5, CLASS_RATE_LIMITED },	    { 4, 6, CLASS_ROUTING_ERRORS },
	{ 4, 7, CLASS_MESSAGE_EXPIRED },    { 5, 3, CLASS_RATE_LIMITED },
	{ 7, 5, CLASS_TLS_FAILURE },	    { 7, 8, CLASS_BAD_CONFIGURATION },
	{ 7, 10, CLASS_TLS_FAILURE },	    { 7, 11, CLASS_TLS_FAILURE },
	{ 7, 13, CLASS_INACTIVE_MAILBOX },  { 7, 17, CLASS_INACTIVE_MAILBOX },
	{ 7, 18, CLASS_BAD_DOMAIN },	    { 7, 20, CLASS_AUTHENTICATION_FAILED },
	{ 7, 21, CLASS_AUTHENTICATION_FAILED }, { 7, 22, CLASS_AUTHENTICATION_FAILED },
	{ 7, 23, CLASS_AUTHENTICATION_FAILED }, { 7, 24, CLASS_AUTHENTICATION_FAILED },
	{ 7, 25, CLASS_BAD_CONFIGURATION }, { 7, 26, CLASS_AUTHENTICATION_FAILED },
	{ 7, 27, CLASS_INVALID_SENDER },    { 7, 28, CLASS_RATE_LIMITED },
	{ 7, 29, CLASS_AUTHENTICATION_FAILED }, { 7, 30, CLASS_TLS_FAILURE },
};

static bool
class_of_status(struct status status, enum reply_class *ret)
{
	for (size_t i = 0; i < sizeof(by_status) / sizeof(by_status[0]); i++)
		if (by_status[i].subject == status.subject &&
		    by_status[i].detail == status.detail) {
			*ret = by_status[i].class;
			/*
			 * "disabled, try again": RFC 3463 has it so, and those who say it mean
			 * anything
			 */
			if (status.klass == 4 && *ret == CLASS_INACTIVE_MAILBOX)
				*ret = CLASS_TRANSIENT_FAILURE;
			return true;
		}
	if (status.subject == 5)
		*ret = CLASS_PROTOCOL_ERRORS;
	else if (status.subject == 6)
		*ret = CLASS_CONTENT_RELATED;
	else if (status.subject == 7)
		*ret = CLASS_POLICY_RELATED;
	else
		return false;
	return true;
}

static enum reply_class
class_of_none(enum classify_stage stage)
{
	if (stage == CLASSIFY_TLS)
		return CLASS_TLS_FAILURE;
	return stage == CLASSIFY_AUTH ? CLASS_BAD_CONFIGURATION : CLASS_BAD_CONNECTION;
}

static enum reply_class
class_of_rcpt(uint16_t code)
{
	switch (code) {
	case 550: case 551: case 553:
		return CLASS_BAD_MAILBOX;
	case 452: case 552:
		return CLASS_QUOTA_ISSUES;
	default:
		return CLASS_POLICY_RELATED;
	}
}

static enum reply_class
class_of_code(enum classify_stage stage, uint16_t code)
{
	if (stage == CLASSIFY_TLS && code >= 400)
		return CLASS_TLS_FAILURE;
	if (stage == CLASSIFY_AUTH || code == 530 || code == 534 || code == 535 || code == 538)
		return CLASS_BAD_CONFIGURATION;
	if ((code >= 500 && code <= 504) || code == 555)
		return CLASS_PROTOCOL_ERRORS;
	if (code == 521 || code == 556)			/* RFC 7504 */
		return CLASS_BAD_DOMAIN;
	if (code / 100 == 4)
		return code == 452 && stage == CLASSIFY_RCPT ? CLASS_QUOTA_ISSUES
							     : CLASS_TRANSIENT_FAILURE;
	if (code / 100 != 5)
		return CLASS_OTHER;
	if (stage == CLASSIFY_RCPT)
		return class_of_rcpt(code);
	if (stage == CLASSIFY_MAIL && (code == 550 || code == 553))
		return CLASS_INVALID_SENDER;
	if (code == 552)
		return CLASS_TOO_BIG;
	return CLASS_POLICY_RELATED;
}

enum reply_class
classify_codes(const struct classify_reply *reply)
{
	enum reply_class class;

	if (reply->status.klass >= 4 && class_of_status(reply->status, &class))
		return class;
	if (reply->code == 0)
		return class_of_none(reply->stage);
	return class_of_code(reply->stage, reply->code);
}
