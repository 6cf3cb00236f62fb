/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that know no lengths, or hide errors. The build includes this file before every source of ours, so that a
 * use does not compile. The system headers come first, so that their own declarations are left alone.
 */
#if !defined(POSTERN_BASE_BANNED_H) && !defined(__ASSEMBLER__)
#define POSTERN_BASE_BANNED_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <wchar.h>

#define BANNED(function) use_of_##function##_is_banned_see_base_banned_h

#undef strcpy
#define strcpy(a, b) BANNED(strcpy)
#undef strncpy
#define strncpy(a, b, c) BANNED(strncpy)
#undef strcat
#define strcat(a, b) BANNED(strcat)
#undef strncat
#define strncat(a, b, c) BANNED(strncat)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) BANNED(vsprintf)
#undef strtok
#define strtok(a, b) BANNED(strtok)
#undef gets
#define gets(a) BANNED(gets)
#undef atoi
#define atoi(a) BANNED(atoi)
#undef atol
#define atol(a) BANNED(atol)
#undef atoll
#define atoll(a) BANNED(atoll)
#undef gmtime
#define gmtime(a) BANNED(gmtime)
#undef localtime
#define localtime(a) BANNED(localtime)
#undef ctime
#define ctime(a) BANNED(ctime)
#undef asctime
#define asctime(a) BANNED(asctime)

#endif
