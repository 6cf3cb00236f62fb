/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/date.h"

#define MS_PER_DAY     86400000LL
#define FIRST_MS       (-25567LL * MS_PER_DAY)      /* 1900-01-01, the first year that RFC 5322 allows */
#define LAST_MS        (2932897LL * MS_PER_DAY - 1) /* the end of 9999-12-31 */
#define DAYS_TO_MARCH0 719468LL                     /* from 0000-03-01 to 1970-01-01 */
#define DAYS_PER_ERA   146097LL                     /* 400 years */

struct civil_date {
    unsigned year;
    unsigned month; /* 0 to 11 */
    unsigned day;   /* 1 to 31 */
};

/* The Gregorian calendar, counted from a first of March so that the leap day ends a year. `days` since 1970, not before 1900. */
static struct civil_date civil_from_days(int64_t days)
{
    const int64_t from_march0 = days + DAYS_TO_MARCH0;
    const int64_t era = from_march0 / DAYS_PER_ERA;
    const unsigned day_of_era = (unsigned)(from_march0 - era * DAYS_PER_ERA);
    const unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (unsigned)(DAYS_PER_ERA - 1)) / 365;
    const unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const unsigned month_from_march = (5 * day_of_year + 2) / 153;
    const unsigned month = (month_from_march + 2) % 12;

    return (struct civil_date){
        .year = (unsigned)(era * 400) + year_of_era + (month < 2 ? 1 : 0),
        .month = month,
        .day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
    };
}

static char *put_digits(char *out, unsigned value, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    return out + digits;
}

static char *put_text(char *out, const char *text, size_t length)
{
    memcpy(out, text, length);
    return out + length;
}

struct str date_format_rfc5322(int64_t real_ms, char out[DATE_RFC5322_BYTES])
{
    static const char weekdays[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const int64_t ms = real_ms < FIRST_MS ? FIRST_MS : real_ms > LAST_MS ? LAST_MS : real_ms;
    const int64_t days = (ms - FIRST_MS) / MS_PER_DAY + FIRST_MS / MS_PER_DAY;
    const unsigned seconds = (unsigned)((ms - days * MS_PER_DAY) / 1000);
    const unsigned weekday = (unsigned)(((days % 7) + 7) % 7);
    const struct civil_date date = civil_from_days(days);
    char *p = out;

    p = put_text(p, weekdays + (size_t)weekday * 3, 3);
    p = put_text(p, ", ", 2);
    p = put_digits(p, date.day, 2);
    *p++ = ' ';
    p = put_text(p, months + (size_t)date.month * 3, 3);
    *p++ = ' ';
    p = put_digits(p, date.year, 4);
    *p++ = ' ';
    p = put_digits(p, seconds / 3600, 2);
    *p++ = ':';
    p = put_digits(p, seconds / 60 % 60, 2);
    *p++ = ':';
    p = put_digits(p, seconds % 60, 2);
    p = put_text(p, " +0000", 6);
    *p = '\0';
    return str_make(out, (size_t)(p - out));
}
