/*
 * Ten thousand purifications, and a thousand that are cancelled at random steps: memory does not grow, and the next one is right.
 *
 *     endurance FIXTURES
 */
#include <unistd.h>

#include "check.h"

#define N_VALUES 64

/* Memory that may come and go between two looks at it. */
#define SLACK_BYTES (2L << 20)

static float images[2 * N_VALUES], expected[2 * N_VALUES], ends[2 * N_VALUES];

static long resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*s %ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static ebm_purifier *make(const ebm_model *step, size_t n_steps, size_t n_threads) {
    ebm_settings *settings;
    ebm_purifier *purifier;
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&settings));
    EXPECT(EBM_STATUS_OK, ebm_settings_steps(settings, n_steps));
    EXPECT(EBM_STATUS_OK, ebm_settings_threads(settings, n_threads));
    EXPECT(EBM_STATUS_OK, ebm_settings_batch(settings, 1));
    EXPECT(EBM_STATUS_OK, ebm_purifier_new(step, settings, 1, &purifier));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(settings));
    return purifier;
}

static void purify(const ebm_purifier *purifier) {
    memset(ends, 0, sizeof ends);
    EXPECT(EBM_STATUS_OK, ebm_purify(purifier, NULL, images, 2, 128, ends, 128, NULL, 0));
    CHECK(memcmp(ends, expected, sizeof ends) == 0);
}

/* Counts down, and cancels at 0. */
static int32_t count_down(uint64_t n_done, uint64_t n_total, void *user_data) {
    int *n_left = user_data;
    CHECK(n_done > 0 && n_done <= n_total && *n_left > 0);
    return --*n_left == 0;
}

static void cancel(const ebm_purifier *endless, int n_calls) {
    ebm_request request = ebm_request_default();
    int n_left = n_calls;
    request.on_progress = count_down;
    request.user_data = &n_left;
    EXPECT(EBM_STATUS_CANCELLED, ebm_purify(endless, &request, images, 2, 128, ends, 128, NULL, 0));
    CHECK(n_left == 0);
}

static void time_out(const ebm_purifier *endless) {
    ebm_request request = ebm_request_default();
    ebm_report reports[2];
    request.time_limit = 0.001;
    EXPECT(EBM_STATUS_OK, ebm_purify(endless, &request, images, 2, 128, ends, 128, reports, 2));
    CHECK(reports[0].n_steps < 3000000 && reports[0].failed_step == -1);
}

int main(int argc, char **argv) {
    char path[4096];
    ebm_model *step;
    ebm_purifier *alone, *both, *endless;
    long before = 0, after;
    int i;
    CHECK(argc == 2);
    snprintf(path, sizeof path, "%s/digits/step.onnx", argv[1]);
    EXPECT(EBM_STATUS_OK, ebm_model_open(path, &step));
    alone = make(step, 5, 1);
    both = make(step, 5, 2);
    endless = make(step, 3000000, 2);
    for (i = 0; i < 128; i++) images[i] = (float)(i % 11) / 5 - 1;
    EXPECT(EBM_STATUS_OK, ebm_purify(alone, NULL, images, 2, 128, expected, 128, NULL, 0));

    for (i = 0; i < 10000; i++) {
        if (i == 2000) before = resident_bytes();
        purify(i % 10 == 0 ? both : alone);
        if (i % 10 == 0) cancel(endless, 1 + rand() % 40);
        if (i % 100 == 0) time_out(endless);
        if (i % 100 == 0) EXPECT(EBM_STATUS_OK, ebm_purifier_free(make(step, 1, 1)));
    }
    after = resident_bytes();
    printf("%ld KiB, then %ld KiB\n", before / 1024, after / 1024);
    CHECK(after - before < SLACK_BYTES);

    EXPECT(EBM_STATUS_OK, ebm_purifier_free(alone));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(both));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(endless));
    EXPECT(EBM_STATUS_OK, ebm_model_free(step));
    CHECK(ebm_n_handles() == 0);
    return 0;
}
