/*
 * Calls everything as it must not be called: with null, freed and foreign handles, null and misaligned pointers, wrong sizes and values out of range.
 *
 *     misuse FIXTURES
 */
#include <math.h>

#include "check.h"

#define N_VALUES 64

static float images[2 * N_VALUES], ends[2 * N_VALUES];
static uint8_t bytes[2 * N_VALUES];
static ebm_report reports[2];
static ebm_model *step, *classifier_model, *generator;
static ebm_settings *settings;
static ebm_purifier *purifier;
static ebm_classifier *classifier;
static ebm_score *score;
static ebm_smoothed *smoothed;

/* A pointer into the middle of a value. */
static void *misaligned(void *pointer) { return (char *)pointer + 1; }

static void open_bad_models(const char *fixtures) {
    char path[4096];
    ebm_model *model = (ebm_model *)&path;
    EXPECT(EBM_STATUS_IO, ebm_model_open("no/such/file", &model));
    CHECK(model == NULL);
    EXPECT(EBM_STATUS_IO, ebm_model_open("", &model));
    EXPECT(EBM_STATUS_POINTER, ebm_model_open(NULL, &model));
    EXPECT(EBM_STATUS_POINTER, ebm_model_open(path, NULL));
    EXPECT(EBM_STATUS_IO, ebm_folder_open(fixtures, &model, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_folder_open(fixtures, NULL, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_folder_open(NULL, &model, &model));
    EXPECT(EBM_STATUS_MODEL, ebm_model_from_bytes((const uint8_t *)"poem", 4, &model));
    EXPECT(EBM_STATUS_MODEL, ebm_model_from_bytes(NULL, 0, &model));
    EXPECT(EBM_STATUS_POINTER, ebm_model_from_bytes(NULL, 4, &model));
    EXPECT(EBM_STATUS_SHAPE, ebm_model_from_bytes((const uint8_t *)"poem", (size_t)-1, &model));
    snprintf(path, sizeof path, "%s/bare.onnx", fixtures);
    EXPECT(EBM_STATUS_CONTRACT, ebm_model_open_unverified(path, &model));
    snprintf(path, sizeof path, "%s/make_fixtures.py", fixtures);
    EXPECT(EBM_STATUS_MODEL, ebm_model_open(path, &model));
    CHECK(strstr(ebm_last_error(), "make_fixtures.py") != NULL);
}

static void open_good_models(const char *fixtures) {
    char path[4096];
    ebm_smoothing smoothing = ebm_smoothing_default(0.25);
    snprintf(path, sizeof path, "%s/digits", fixtures);
    EXPECT(EBM_STATUS_OK, ebm_folder_open(path, &step, &classifier_model));
    snprintf(path, sizeof path, "%s/digits/generator.onnx", fixtures);
    EXPECT(EBM_STATUS_OK, ebm_model_open(path, &generator));
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&settings));
    EXPECT(EBM_STATUS_OK, ebm_settings_steps(settings, 3));
    EXPECT(EBM_STATUS_OK, ebm_settings_threads(settings, 2));
    EXPECT(EBM_STATUS_OK, ebm_purifier_new(step, settings, 1, &purifier));
    EXPECT(EBM_STATUS_OK, ebm_classifier_new(classifier_model, settings, &classifier));
    EXPECT(EBM_STATUS_OK, ebm_score_new(step, settings, &score));
    smoothing.n0 = 10;
    smoothing.n = 50;
    EXPECT(EBM_STATUS_OK, ebm_smoothed_new(classifier_model, step, settings, smoothing, &smoothed));
}

/* What the models say of themselves, and where it cannot be written to. */
static void ask_models(void) {
    ebm_image_shape shape;
    ebm_dynamics dynamics;
    ebm_kind kind;
    size_t n_classes;
    EXPECT(EBM_STATUS_OK, ebm_model_image(step, &shape));
    CHECK(shape.channels == 1 && shape.height == 8 && shape.width == 8);
    EXPECT(EBM_STATUS_OK, ebm_model_purification(step, &dynamics));
    CHECK(dynamics.steps == 20 && dynamics.step_size == 0.1 && dynamics.temperature == 0.5);
    EXPECT(EBM_STATUS_OK, ebm_model_learned(step, &dynamics));
    CHECK(dynamics.steps == 50);
    EXPECT(EBM_STATUS_OK, ebm_model_purification(classifier_model, &dynamics));
    CHECK(dynamics.steps == 0 && dynamics.step_size == 0 && dynamics.temperature == 0);
    EXPECT(EBM_STATUS_OK, ebm_model_kind(generator, &kind));
    CHECK(kind == EBM_KIND_GENERATOR);
    EXPECT(EBM_STATUS_OK, ebm_model_n_classes(classifier_model, &n_classes));
    CHECK(n_classes == 2);
    EXPECT(EBM_STATUS_POINTER, ebm_model_image(step, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_model_kind(step, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_model_n_classes(step, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_model_purification(step, misaligned(&dynamics)));
    EXPECT(EBM_STATUS_POINTER, ebm_model_learned(step, NULL));
}

/* Every function with a handle that is none. */
static void give_bad_handle(const void *bad) {
    ebm_image_shape shape;
    ebm_dynamics dynamics;
    ebm_kind kind;
    size_t n;
    float threshold;
    ebm_purifier *made = (ebm_purifier *)&shape;
    ebm_sampler *sampler = NULL;
    ebm_score *other_score = NULL;
    ebm_classifier *other_classifier = NULL;
    ebm_smoothed *other_smoothed = NULL;
    ebm_smoothing smoothing = ebm_smoothing_default(0.25);
    ebm_certificate certificate;
    ebm_prediction prediction;
    ebm_answers answers;
    memset(&answers, 0, sizeof answers);
    EXPECT(EBM_STATUS_HANDLE, ebm_smoothed_new(bad, step, NULL, smoothing, &other_smoothed));
    EXPECT(EBM_STATUS_HANDLE, ebm_certify(bad, NULL, images, 64, NULL, NULL, &certificate));
    EXPECT(EBM_STATUS_HANDLE, ebm_certify_u8(bad, NULL, bytes, 64, NULL, NULL, &certificate));
    EXPECT(EBM_STATUS_HANDLE, ebm_predict(bad, NULL, images, 64, NULL, NULL, &prediction));
    EXPECT(EBM_STATUS_HANDLE, ebm_predict_u8(bad, NULL, bytes, 64, NULL, NULL, &prediction));
    EXPECT(EBM_STATUS_HANDLE, ebm_model_image(bad, &shape));
    EXPECT(EBM_STATUS_HANDLE, ebm_model_kind(bad, &kind));
    EXPECT(EBM_STATUS_HANDLE, ebm_model_n_classes(bad, &n));
    EXPECT(EBM_STATUS_HANDLE, ebm_model_purification(bad, &dynamics));
    EXPECT(EBM_STATUS_HANDLE, ebm_model_learned(bad, &dynamics));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_as_learned((ebm_settings *)bad));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_steps((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_step_size((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_temperature((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_clip((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_energy_range((ebm_settings *)bad, 0, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_without_noise((ebm_settings *)bad));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_denoiser((ebm_settings *)bad, 0.25));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_replica((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_batch((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_threads((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_backend((ebm_settings *)bad, "native"));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_library((ebm_settings *)bad, NULL));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_allow_fallback((ebm_settings *)bad));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_device((ebm_settings *)bad, 1));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_cache((ebm_settings *)bad, NULL));
    EXPECT(EBM_STATUS_HANDLE, ebm_settings_f16((ebm_settings *)bad));
    EXPECT(EBM_STATUS_HANDLE, ebm_purifier_new(bad, NULL, 1, &made));
    CHECK(made == NULL);
    EXPECT(EBM_STATUS_HANDLE, ebm_purifier_share(bad, NULL, 1, &made));
    EXPECT(EBM_STATUS_HANDLE, ebm_purify(bad, NULL, images, 2, 128, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_HANDLE, ebm_purify_u8(bad, NULL, bytes, 2, 128, bytes, 128, NULL, 0));
    EXPECT(EBM_STATUS_HANDLE, ebm_sampler_from_noise(bad, &sampler));
    EXPECT(EBM_STATUS_HANDLE, ebm_sampler_from_images(bad, images, 2, 128, &sampler));
    EXPECT(EBM_STATUS_HANDLE, ebm_sampler_from_generator(bad, generator, -1, &sampler));
    EXPECT(EBM_STATUS_HANDLE, ebm_sampler_from_generator(purifier, bad, -1, &sampler));
    CHECK(sampler == NULL);
    EXPECT(EBM_STATUS_HANDLE, ebm_sample(bad, NULL, 2, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_HANDLE, ebm_sample_u8(bad, NULL, 2, bytes, 128, NULL, 0));
    EXPECT(EBM_STATUS_HANDLE, ebm_score_new(bad, NULL, &other_score));
    EXPECT(EBM_STATUS_HANDLE, ebm_energies(bad, images, 2, 128, ends, 2));
    EXPECT(EBM_STATUS_HANDLE, ebm_energies_u8(bad, bytes, 2, 128, ends, 2));
    EXPECT(EBM_STATUS_HANDLE, ebm_score_fit(bad, images, 2, 128, 0.1, &threshold));
    EXPECT(EBM_STATUS_HANDLE, ebm_classifier_new(bad, NULL, &other_classifier));
    EXPECT(EBM_STATUS_HANDLE, ebm_classify(bad, images, 2, 128, answers));
    EXPECT(EBM_STATUS_HANDLE, ebm_classify_u8(bad, bytes, 2, 128, answers));
    EXPECT(EBM_STATUS_HANDLE, ebm_classify_defended(bad, bad, NULL, images, 2, 128, answers));
    EXPECT(EBM_STATUS_HANDLE, ebm_classify_defended_u8(purifier, bad, NULL, bytes, 2, 128, answers));
    if (bad != NULL) {
        EXPECT(EBM_STATUS_HANDLE, ebm_smoothed_new(classifier_model, bad, NULL, smoothing, &other_smoothed));
        EXPECT(EBM_STATUS_HANDLE, ebm_smoothed_new(classifier_model, NULL, bad, smoothing, &other_smoothed));
        EXPECT(EBM_STATUS_HANDLE, ebm_smoothed_free((ebm_smoothed *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_purifier_new(step, bad, 1, &made));
        EXPECT(EBM_STATUS_HANDLE, ebm_model_free((ebm_model *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_settings_free((ebm_settings *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_purifier_free((ebm_purifier *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_sampler_free((ebm_sampler *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_score_free((ebm_score *)bad));
        EXPECT(EBM_STATUS_HANDLE, ebm_classifier_free((ebm_classifier *)bad));
    }
}

static void give_bad_handles(void) {
    ebm_settings *freed = NULL;
    int local = 0;
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&freed));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(freed));
    give_bad_handle(NULL);
    give_bad_handle(freed);
    give_bad_handle(&local);
    EXPECT(EBM_STATUS_OK, ebm_model_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_sampler_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_score_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_classifier_free(NULL));
    EXPECT(EBM_STATUS_OK, ebm_smoothed_free(NULL));
    /* Handles of other things: the compiler warns of them, unless it is talked out of it. */
    EXPECT(EBM_STATUS_HANDLE, ebm_purify((const ebm_purifier *)step, NULL, images, 2, 128, ends, 128, NULL, 0));
    CHECK(strstr(ebm_last_error(), "expected a handle of type `ebm_purifier`, got one of type `ebm_model`") != NULL);
    EXPECT(EBM_STATUS_HANDLE, ebm_purifier_free((ebm_purifier *)step));
}

/* Settings out of range, which show when something is made with them. */
static void give_bad_settings(void) {
    ebm_settings *bad;
    ebm_purifier *made;
    ebm_classifier *other_classifier;
    ebm_score *other_score;
#define REFUSED(wanted, change)                                 \
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&bad));              \
    EXPECT(EBM_STATUS_OK, change);                              \
    EXPECT(wanted, ebm_purifier_new(step, bad, 1, &made));         \
    EXPECT(EBM_STATUS_OK, ebm_settings_free(bad))
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_steps(bad, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_steps(bad, (size_t)-1));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_step_size(bad, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_step_size(bad, NAN));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_temperature(bad, -1));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_clip(bad, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_denoiser(bad, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_denoiser(bad, NAN));
    EXPECT(EBM_STATUS_POINTER, ebm_seed_fresh(NULL));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_energy_range(bad, 1, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_energy_range(bad, NAN, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_threads(bad, 0));
    REFUSED(EBM_STATUS_ARGUMENT, ebm_settings_batch(bad, 0));
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&bad));
    EXPECT(EBM_STATUS_BACKEND_MISSING, ebm_settings_backend(bad, "poem"));
    EXPECT(EBM_STATUS_POINTER, ebm_settings_backend(bad, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_settings_backend(bad, "\xff"));
    EXPECT(EBM_STATUS_OK, ebm_settings_threads(bad, 1));
    EXPECT(EBM_STATUS_ARGUMENT, ebm_purifier_share(purifier, bad, 1, &made));
    EXPECT(EBM_STATUS_POINTER, ebm_purifier_new(step, NULL, 1, NULL));
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_purifier_new(classifier_model, NULL, 1, &made));
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_classifier_new(step, NULL, &other_classifier));
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_score_new(classifier_model, NULL, &other_score));
    CHECK(made == NULL && other_classifier == NULL && other_score == NULL);
    EXPECT(EBM_STATUS_OK, ebm_settings_free(bad));
    EXPECT(EBM_STATUS_OK, ebm_backend_check("native", NULL));
    EXPECT(EBM_STATUS_BACKEND_MISSING, ebm_backend_check("poem", NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_backend_check(NULL, NULL));
    EXPECT(EBM_STATUS_BACKEND_MISSING, ebm_backend_check("ort-cuda", "/no/such/library.so"));
}

static void give_bad_images(void) {
    ebm_request request = ebm_request_default();
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, NULL, NULL, 2, 128, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, NULL, images, 2, 128, NULL, 128, NULL, 0));
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, NULL, misaligned(images), 1, 64, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, NULL, images, 1, 64, misaligned(ends), 64, NULL, 0));
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, NULL, images, 1, 64, ends, 64, misaligned(reports), 1));
    EXPECT(EBM_STATUS_POINTER, ebm_purify(purifier, misaligned(&request), images, 1, 64, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, 2, 127, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, 1, 128, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, 2, 128, ends, 127, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, 2, 128, ends, 128, reports, 1));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, (size_t)-1, (size_t)-64, ends, (size_t)-64, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, NULL, images, (size_t)-1 / 64, (size_t)-64, ends, (size_t)-64, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_purify_u8(purifier, NULL, bytes, 2, 64, bytes, 128, NULL, 0));
    request.n_replicas = 0;
    EXPECT(EBM_STATUS_ARGUMENT, ebm_purify(purifier, &request, images, 1, 64, ends, 64, NULL, 0));
    request.n_replicas = (size_t)-1;
    EXPECT(EBM_STATUS_SHAPE, ebm_purify(purifier, &request, images, 2, 128, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_OK, ebm_purify(purifier, &request, NULL, 0, 0, NULL, 0, NULL, 0));
    request = ebm_request_default();
    request.time_limit = -1;
    EXPECT(EBM_STATUS_ARGUMENT, ebm_purify(purifier, &request, images, 1, 64, ends, 64, NULL, 0));
    request.time_limit = NAN;
    EXPECT(EBM_STATUS_ARGUMENT, ebm_purify(purifier, &request, images, 1, 64, ends, 64, NULL, 0));
    request = ebm_request_default();
    request.first_index = UINT32_MAX;
    EXPECT(EBM_STATUS_ARGUMENT, ebm_purify(purifier, &request, images, 2, 128, ends, 128, NULL, 0));
    ends[0] = 42;
    images[70] = NAN;
    EXPECT(EBM_STATUS_NON_FINITE, ebm_purify(purifier, NULL, images, 2, 128, ends, 128, NULL, 0));
    CHECK(strstr(ebm_last_error(), "image 1") != NULL && ends[0] == 42);
    images[70] = 0;
}

/* A chain that blows up: an error, or a report and the image as it was given. */
static void blow_up(void) {
    ebm_settings *wild;
    ebm_purifier *made;
    EXPECT(EBM_STATUS_OK, ebm_settings_new(&wild));
    EXPECT(EBM_STATUS_OK, ebm_settings_step_size(wild, 1e18));
    EXPECT(EBM_STATUS_OK, ebm_purifier_new(step, wild, 1, &made));
    EXPECT(EBM_STATUS_NON_FINITE, ebm_purify(made, NULL, images, 1, 64, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_OK, ebm_purify(made, NULL, images, 1, 64, ends, 64, reports, 1));
    CHECK(reports[0].failed_step >= 0 && memcmp(ends, images, 64 * sizeof *ends) == 0);
    EXPECT(EBM_STATUS_OK, ebm_settings_free(wild));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(made));
}

static void give_bad_rooms(void) {
    ebm_sampler *sampler = NULL;
    ebm_answers answers;
    float logits[4], threshold;
    EXPECT(EBM_STATUS_ARGUMENT, ebm_sampler_from_images(purifier, images, 0, 0, &sampler));
    EXPECT(EBM_STATUS_SHAPE, ebm_sampler_from_images(purifier, images, 1, 63, &sampler));
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_sampler_from_generator(purifier, step, -1, &sampler));
    EXPECT(EBM_STATUS_ARGUMENT, ebm_sampler_from_generator(purifier, generator, 0, &sampler));
    EXPECT(EBM_STATUS_POINTER, ebm_sampler_from_noise(purifier, NULL));
    EXPECT(EBM_STATUS_OK, ebm_sampler_from_noise(purifier, &sampler));
    EXPECT(EBM_STATUS_SHAPE, ebm_sample(sampler, NULL, 2, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_SHAPE, ebm_sample(sampler, NULL, (size_t)-1, ends, 64, NULL, 0));
    EXPECT(EBM_STATUS_POINTER, ebm_sample(sampler, NULL, 2, NULL, 128, NULL, 0));
    EXPECT(EBM_STATUS_OK, ebm_sampler_free(sampler));
    EXPECT(EBM_STATUS_HANDLE, ebm_sampler_free(sampler));
    EXPECT(EBM_STATUS_SHAPE, ebm_energies(score, images, 2, 128, ends, 1));
    EXPECT(EBM_STATUS_POINTER, ebm_energies(score, images, 2, 128, NULL, 2));
    EXPECT(EBM_STATUS_ARGUMENT, ebm_score_fit(score, images, 2, 128, 1.0, &threshold));
    EXPECT(EBM_STATUS_POINTER, ebm_score_fit(score, images, 2, 128, 0.1, NULL));
    memset(&answers, 0, sizeof answers);
    answers.logits = logits;
    answers.n_logits = 3;
    EXPECT(EBM_STATUS_SHAPE, ebm_classify(classifier, images, 2, 128, answers));
    EXPECT(EBM_STATUS_SHAPE, ebm_classify_defended(purifier, classifier, NULL, images, 2, 128, answers));
    answers.n_logits = 4;
    EXPECT(EBM_STATUS_OK, ebm_classify(classifier, images, 2, 128, answers));
    answers.logits = misaligned(logits);
    EXPECT(EBM_STATUS_POINTER, ebm_classify(classifier, images, 2, 128, answers));
}

static int32_t cancel_at_the_end(uint64_t n_done, uint64_t n_total, void *user_data) {
    CHECK(user_data == images);
    return n_done == n_total;
}

/* A call that is cancelled in its last step is cancelled too, and writes nothing. */
static void cancel_late(void) {
    ebm_request request = ebm_request_default();
    ebm_answers answers;
    memset(&answers, 0, sizeof answers);
    request.on_progress = cancel_at_the_end;
    request.user_data = images;
    ends[0] = 42;
    EXPECT(EBM_STATUS_CANCELLED, ebm_purify(purifier, &request, images, 2, 128, ends, 128, NULL, 0));
    CHECK(ends[0] == 42);
    EXPECT(EBM_STATUS_CANCELLED, ebm_classify_defended(purifier, classifier, &request, images, 2, 128, answers));
}

static int32_t cancel_at_once(uint64_t n_done, uint64_t n_total, void *user_data) {
    CHECK(user_data == bytes && n_done <= n_total);
    return 1;
}

/* Smoothing out of range, images that do not fit, and fresh noise that a certificate states. */
static void certify_badly(void) {
    ebm_smoothed *made = NULL;
    ebm_smoothing bad;
    ebm_known_noise noise;
    ebm_certificate first, second;
    ebm_prediction prediction;
    images[0] = 0;
#define NOT_SMOOTHED(field, value)        \
    bad = ebm_smoothing_default(0.25);    \
    bad.field = value;                    \
    EXPECT(EBM_STATUS_ARGUMENT, ebm_smoothed_new(classifier_model, NULL, NULL, bad, &made))
    NOT_SMOOTHED(sigma, 0);
    NOT_SMOOTHED(sigma, NAN);
    NOT_SMOOTHED(sigma, 8);
    NOT_SMOOTHED(n0, 0);
    NOT_SMOOTHED(n, 0);
    NOT_SMOOTHED(n, 99);
    NOT_SMOOTHED(n, (size_t)-1);
    NOT_SMOOTHED(alpha, 0);
    NOT_SMOOTHED(alpha, 1);
    NOT_SMOOTHED(alpha, NAN);
    bad = ebm_smoothing_default(0.25);
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_smoothed_new(step, NULL, NULL, bad, &made));
    EXPECT(EBM_STATUS_WRONG_KIND, ebm_smoothed_new(classifier_model, generator, NULL, bad, &made));
    EXPECT(EBM_STATUS_POINTER, ebm_smoothed_new(classifier_model, NULL, NULL, bad, NULL));
    CHECK(made == NULL);
    EXPECT(EBM_STATUS_SHAPE, ebm_certify(smoothed, NULL, images, 63, NULL, NULL, &first));
    EXPECT(EBM_STATUS_POINTER, ebm_certify(smoothed, NULL, NULL, 64, NULL, NULL, &first));
    EXPECT(EBM_STATUS_POINTER, ebm_certify(smoothed, NULL, images, 64, NULL, NULL, NULL));
    EXPECT(EBM_STATUS_POINTER, ebm_certify(smoothed, NULL, images, 64, NULL, NULL, misaligned(&first)));
    EXPECT(EBM_STATUS_POINTER, ebm_certify(smoothed, misaligned(&noise), images, 64, NULL, NULL, &first));
    EXPECT(EBM_STATUS_POINTER, ebm_predict(smoothed, NULL, images, 64, NULL, NULL, NULL));
    EXPECT(EBM_STATUS_CANCELLED, ebm_certify_u8(smoothed, NULL, bytes, 64, cancel_at_once, bytes, &first));
    images[3] = NAN;
    EXPECT(EBM_STATUS_NON_FINITE, ebm_certify(smoothed, NULL, images, 64, NULL, NULL, &first));
    images[3] = 0;
    EXPECT(EBM_STATUS_OK, ebm_certify(smoothed, NULL, images, 64, NULL, NULL, &first));
    EXPECT(EBM_STATUS_OK, ebm_certify(smoothed, NULL, images, 64, NULL, NULL, &second));
    CHECK(first.seed != second.seed);
    noise.seed = first.seed;
    noise.index = 0;
    EXPECT(EBM_STATUS_OK, ebm_certify(smoothed, &noise, images, 64, NULL, NULL, &second));
    CHECK(first.class_index == second.class_index && first.radius == second.radius && first.seed == second.seed);
    EXPECT(EBM_STATUS_OK, ebm_predict_u8(smoothed, &noise, bytes, 64, NULL, NULL, &prediction));
}

/* What is freed lives on in what was made from it. */
static void free_in_any_order(void) {
    ebm_sampler *sampler = NULL;
    ebm_purifier *shared = NULL;
    EXPECT(EBM_STATUS_OK, ebm_purifier_share(purifier, NULL, 1, &shared));
    EXPECT(EBM_STATUS_OK, ebm_sampler_from_generator(purifier, generator, -1, &sampler));
    EXPECT(EBM_STATUS_OK, ebm_model_free(step));
    EXPECT(EBM_STATUS_OK, ebm_model_free(classifier_model));
    EXPECT(EBM_STATUS_OK, ebm_model_free(generator));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(settings));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(purifier));
    EXPECT(EBM_STATUS_HANDLE, ebm_purify(purifier, NULL, images, 2, 128, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_OK, ebm_sample(sampler, NULL, 2, ends, 128, reports, 2));
    EXPECT(EBM_STATUS_OK, ebm_purify(shared, NULL, images, 2, 128, ends, 128, NULL, 0));
    EXPECT(EBM_STATUS_OK, ebm_sampler_free(sampler));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(shared));
    EXPECT(EBM_STATUS_OK, ebm_score_free(score));
    EXPECT(EBM_STATUS_OK, ebm_classifier_free(classifier));
    EXPECT(EBM_STATUS_OK, ebm_smoothed_free(smoothed));
    CHECK(ebm_n_handles() == 0);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(ebm_abi() == EBM_ABI && ebm_version()[0] != '\0' && ebm_last_error()[0] == '\0');
    open_bad_models(argv[1]);
    open_good_models(argv[1]);
    ask_models();
    give_bad_handles();
    give_bad_settings();
    give_bad_images();
    blow_up();
    give_bad_rooms();
    cancel_late();
    certify_badly();
    free_in_any_order();
    puts("all refused");
    return 0;
}
