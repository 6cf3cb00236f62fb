/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the proof share. */
#ifndef POSTERN_POLICY_PROVE_PRIVATE_H
#define POSTERN_POLICY_PROVE_PRIVATE_H

#include "policy/model_private.h"
#include "policy/prove.h"

/* All networks that the list names, by named lists too. */
void policy_list_space(const struct policy_client_list *list, struct space *out);
/* Fills `domains` and `certificates`; the sets of addresses are there. */
void policy_prove_names(struct policy_server_proof *proof);

#endif
