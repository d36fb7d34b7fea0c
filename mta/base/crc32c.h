/*
 * crc32c: the checksum of all that is stored (Castagnoli's polynomial, reflected). Pure; any
 * thread.
 */
#ifndef TRAM_BASE_CRC32C_H
#define TRAM_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * crc: 0, or that of what stood before. Portable: the same without special instructions (for its
 * test).
 */
uint32_t crc32c(uint32_t crc, const void *at, size_t len);
uint32_t crc32c_portable(uint32_t crc, const void *at, size_t len);

#endif
