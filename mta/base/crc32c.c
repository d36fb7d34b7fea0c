/*
 * crc32c: by the processor's own instruction where there is one, else by eight tables. See
 * crc32c.h.
 */
#include <pthread.h>
#include <string.h>

#include "mta/base/crc32c.h"

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void
tables_make(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
		tables[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
}

static uint32_t
crc_by_tables(uint32_t crc, const unsigned char *p, size_t len)
{
	pthread_once(&tables_once, tables_make);
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				      (uint32_t)p[3] << 24);

		crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^
		      tables[5][low >> 16 & 255] ^ tables[4][low >> 24] ^ tables[3][p[4]] ^
		      tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
	}
	for (; len > 0; len--, p++)
		crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 255];
	return crc;
}

#if defined(__x86_64__)
/*
 * The instruction takes three cycles and can begin in each: three pieces of LANE octets are summed
 * side by side, and put together by what LANE octets of zero make of a sum (behind[n][b]: of one
 * whose octet n is b; the whole is the exclusive or of its four octets', for all this is linear).
 */
enum { LANE = 1024 };
static uint32_t behind[4][256];
static pthread_once_t behind_once = PTHREAD_ONCE_INIT;

static void
behind_make(void)
{
	static const unsigned char zeros[LANE];

	pthread_once(&tables_once, tables_make);
	for (int n = 0; n < 4; n++)
		for (uint32_t b = 0; b < 256; b++)
			behind[n][b] = crc_by_tables(b << 8 * n, zeros, LANE);
}

static uint32_t
put_behind(uint32_t crc)
{
	return behind[0][crc & 255] ^ behind[1][crc >> 8 & 255] ^ behind[2][crc >> 16 & 255] ^
	       behind[3][crc >> 24];
}

static uint64_t
word_at(const unsigned char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_of_three(uint32_t crc, const unsigned char *p)
{
	uint64_t a = crc, b = 0, c = 0;

	for (const unsigned char *end = p + LANE; p < end; p += 8) {
		a = __builtin_ia32_crc32di(a, word_at(p));
		b = __builtin_ia32_crc32di(b, word_at(p + LANE));
		c = __builtin_ia32_crc32di(c, word_at(p + (size_t)2 * LANE));
	}
	return put_behind(put_behind((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_by_sse42(uint32_t crc, const unsigned char *p, size_t len)
{
	uint64_t wide;

	if (len >= (size_t)3 * LANE)
		pthread_once(&behind_once, behind_make);
	for (; len >= (size_t)3 * LANE; len -= (size_t)3 * LANE, p += (size_t)3 * LANE)
		crc = crc_of_three(crc, p);
	wide = crc;

	for (; len >= 8; len -= 8, p += 8)
		wide = __builtin_ia32_crc32di(wide, word_at(p));
	crc = (uint32_t)wide;
	for (; len > 0; len--, p++)
		crc = __builtin_ia32_crc32qi(crc, *p);
	return crc;
}
#endif

uint32_t
crc32c(uint32_t crc, const void *at, size_t len)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_by_sse42(~crc, at, len);
#endif
	return ~crc_by_tables(~crc, at, len);
}

uint32_t
crc32c_portable(uint32_t crc, const void *at, size_t len)
{
	return ~crc_by_tables(~crc, at, len);
}
