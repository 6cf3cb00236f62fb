# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests are made of: the daemon, raw SMTP clients, a next hop, Maildirs and reports."""
