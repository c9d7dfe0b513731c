/* What guest programs share. */
#include <stdarg.h>

#include "tests/guests/guest.h"

static void
put(char ch)
{
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, (uint8_t)ch);
}

static void
put_number(uint64_t v, unsigned base)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % base];
	while ((v /= base) != 0);
	while (n > 0)
		put(digits[--n]);
}

void
guest_print(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	for (; *format; format++) {
		int wide = 0;

		if (*format != '%') {
			put(*format);
			continue;
		}
		while (*++format == 'l')
			wide = 1;
		switch (*format) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'x':
		case 'u':
			put_number(
			    wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
			    *format == 'x' ? 16 : 10);
			break;
		case 'd': {
			int64_t v =
			    wide ? va_arg(ap, int64_t) : va_arg(ap, int);

			if (v < 0)
				put('-');
			put_number((uint64_t)(v < 0 ? -v : v), 10);
			break;
		}
		default:
			put(*format);
			break;
		}
	}
	va_end(ap);
}

void
guest_end(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none;

	outw(PM1A_CNT, 0x2000); /* sleep type 0 is S5 on some */
	outw(PM1A_CNT, 0x2000 | 5u << 10); /* and 5 on others */
	for (unsigned i = 0; i < 100000; i++)
		(void)inb(0x64);
	outb(0x64, 0xfe);
	__asm__ volatile("lidt %0; ud2" ::"m"(none));
	__builtin_unreachable();
}
