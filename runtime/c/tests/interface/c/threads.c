/*
 * Threads that share a purifier, which is freed while they use it: every result is right until the handle is known to be freed, and each thread has the
 * message of its own last failure.
 *
 *     threads FIXTURES
 */
#include <pthread.h>
#include <unistd.h>

#include "check.h"

#define N_THREADS 4

static float images[128], expected[128];
static ebm_purifier *purifier;
static ebm_settings *wrong;

static void *purify(void *seen) {
    float ends[128];
    ebm_status status;
    int *n_purified = seen;
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_steps(wrong, 1));
    while ((status = ebm_purify(purifier, NULL, images, 2, 128, ends, 128, NULL, 0)) == EBM_STATUS_OK) {
        CHECK(memcmp(ends, expected, sizeof ends) == 0);
        CHECK(strstr(ebm_last_error(), "`settings`") != NULL);
        ++*n_purified;
    }
    CHECK(status == EBM_STATUS_HANDLE);
    CHECK(strstr(ebm_last_error(), "`purifier`: expected a handle of type `ebm_purifier`, got one that was freed") != NULL);
    return NULL;
}

int main(int argc, char **argv) {
    char path[4096];
    pthread_t threads[N_THREADS];
    int n_purified[N_THREADS] = {0}, i;
    ebm_model *step;
    CHECK(argc == 2);
    snprintf(path, sizeof path, "%s/digits/step.onnx", argv[1]);
    EXPECT(EBM_STATUS_OK, ebm_model_open(path, &step));
    EXPECT(EBM_STATUS_OK, ebm_purifier_new(step, NULL, 1, &purifier));
    EXPECT(EBM_STATUS_OK, ebm_model_free(step));
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&wrong));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(wrong));
    EXPECT(EBM_STATUS_OK, ebm_purify(purifier, NULL, images, 2, 128, expected, 128, NULL, 0));
    for (i = 0; i < N_THREADS; i++) CHECK(pthread_create(&threads[i], NULL, purify, &n_purified[i]) == 0);
    sleep(1);
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(purifier));
    for (i = 0; i < N_THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(n_purified[i] > 0);
    }
    CHECK(ebm_n_handles() == 0 && ebm_last_error()[0] == '\0');
    return 0;
}
