/* SPDX-License-Identifier: Apache-2.0 */
/* notify: tells systemd, if it asked (NOTIFY_SOCKET), what the daemon is doing; see sd_notify(3). Any thread; never waits. */
#ifndef POSTERN_OS_NOTIFY_H
#define POSTERN_OS_NOTIFY_H

/* "READY=1", "RELOADING=1\nMONOTONIC_USEC=...", "STOPPING=1". Nothing happens where nobody asked. */
void notify_state(const char *state);
/* RELOADING=1, with the time that Type=notify-reload wants. */
void notify_reloading(void);

#endif
