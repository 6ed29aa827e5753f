/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ebm_runtime.h>

/* Ends the program where a call comes to something else than it must. */
#define EXPECT(wanted, call) expect(wanted, call, #call, __LINE__)

/* Ends the program where something does not hold. */
#define CHECK(holds) check(holds, #holds, __LINE__)

static void check(int holds, const char *what, int line) {
    if (!holds) {
        fprintf(stderr, "line %d: %s does not hold\n", line, what);
        exit(1);
    }
}

static void expect(ebm_status wanted, ebm_status got, const char *call, int line) {
    const char *message = got == EBM_STATUS_OK ? "" : ebm_last_error();
    if (got != wanted || (got != EBM_STATUS_OK && message[0] == '\0')) {
        fprintf(stderr, "line %d: %s: expected %s, got %s: %s\n", line, call, ebm_status_name(wanted), ebm_status_name(got), message);
        exit(1);
    }
}

#endif
