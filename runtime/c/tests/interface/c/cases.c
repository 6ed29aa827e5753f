/*
 * Runs the cases of a file, and prints the bits of what comes out: `cases.rs` does the same without C.
 *
 *     cases FIXTURES CASES
 */
#include "check.h"

#define N_COLUMNS 15

/* One line of the file. `-` stands for what is not set. */
typedef struct {
    char what[16], model[64], other[64], backend[16];
    char steps[16], step_size[16], temperature[16], clip[16], energy_high[16], seed[32], threads[16], batch[16];
    unsigned long n_replicas, first_index, n_images;
} test_case;

typedef struct {
    ebm_model *model, *other;
    ebm_settings *settings;
    ebm_purifier *purifier;
    ebm_sampler *sampler;
    ebm_score *score;
    ebm_classifier *classifier;
    ebm_smoothed *smoothed;
    size_t n_images, n_values, n_chains;
    float *images, *ends;
    uint8_t *bytes;
    ebm_report *reports;
    ebm_request request;
} work;

static int is_set(const char *column) { return strcmp(column, "-") != 0; }

static void show(const float *values, size_t n) {
    size_t i;
    uint32_t bits;
    for (i = 0; i < n; i++) {
        memcpy(&bits, &values[i], sizeof bits);
        printf(" %08lx", (unsigned long)bits);
    }
}

static void show_bytes(const uint8_t *values, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) printf(" %02x", values[i]);
}

static void show_reports(const ebm_report *reports, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        printf(" | %lu %lu %lu %ld", (unsigned long)reports[i].image, (unsigned long)reports[i].replica,
               (unsigned long)reports[i].n_steps, (long)reports[i].failed_step);
        show(&reports[i].energy, 1);
        show(&reports[i].gradient_norm, 1);
        show(&reports[i].saturation, 1);
    }
}

/* The first failure of two calls. */
#define TRY(call)                                  \
    do {                                           \
        ebm_status status = (call);                \
        if (status != EBM_STATUS_OK) return status; \
    } while (0)

static ebm_status open_model(const char *fixtures, const char *name, ebm_model **model) {
    char path[4096];
    if (!is_set(name)) return EBM_STATUS_OK;
    snprintf(path, sizeof path, "%s/%s.onnx", fixtures, name);
    return ebm_model_open(path, model);
}

static ebm_status set_up(const test_case *c, const char *fixtures, work *w) {
    TRY(open_model(fixtures, c->model, &w->model));
    TRY(open_model(fixtures, c->other, &w->other));
    TRY(ebm_settings_new(&w->settings));
    TRY(ebm_settings_backend(w->settings, c->backend));
    if (is_set(c->steps)) TRY(ebm_settings_steps(w->settings, strtoul(c->steps, NULL, 10)));
    if (is_set(c->step_size)) TRY(ebm_settings_step_size(w->settings, strtod(c->step_size, NULL)));
    if (is_set(c->temperature)) TRY(ebm_settings_temperature(w->settings, strtod(c->temperature, NULL)));
    if (is_set(c->clip)) TRY(ebm_settings_clip(w->settings, strtod(c->clip, NULL)));
    if (is_set(c->energy_high)) TRY(ebm_settings_energy_range(w->settings, -1e30f, (float)strtod(c->energy_high, NULL)));
    if (is_set(c->threads)) TRY(ebm_settings_threads(w->settings, strtoul(c->threads, NULL, 10)));
    if (is_set(c->batch)) TRY(ebm_settings_batch(w->settings, strtoul(c->batch, NULL, 10)));
    return EBM_STATUS_OK;
}

static ebm_status make_images(const test_case *c, work *w) {
    ebm_image_shape shape;
    size_t i;
    TRY(ebm_model_image(w->model, &shape));
    w->n_images = c->n_images;
    w->n_values = w->n_images * shape.channels * shape.height * shape.width;
    w->n_chains = w->n_images * c->n_replicas;
    w->images = malloc(w->n_values * sizeof *w->images);
    w->ends = malloc(w->n_values * c->n_replicas * sizeof *w->ends);
    w->bytes = malloc(w->n_values * c->n_replicas);
    w->reports = malloc(w->n_chains * sizeof *w->reports);
    CHECK(w->images != NULL && w->ends != NULL && w->bytes != NULL && w->reports != NULL);
    for (i = 0; i < w->n_values; i++) {
        w->images[i] = (float)(i * 37 % 101) / 50 - 1;
        w->bytes[i] = (uint8_t)(i * 37 % 256);
    }
    w->request = ebm_request_default();
    w->request.n_replicas = c->n_replicas;
    w->request.first_index = (uint32_t)c->first_index;
    return EBM_STATUS_OK;
}

static ebm_status purify(work *w) {
    size_t n = w->n_values * w->request.n_replicas;
    TRY(ebm_purify(w->purifier, &w->request, w->images, w->n_images, w->n_values, w->ends, n, w->reports, w->n_chains));
    show(w->ends, n);
    show_reports(w->reports, w->n_chains);
    return EBM_STATUS_OK;
}

static ebm_status purify_bytes(work *w) {
    size_t n = w->n_values * w->request.n_replicas;
    /* In place. */
    TRY(ebm_purify_u8(w->purifier, &w->request, w->bytes, w->n_images, w->n_values, w->bytes, n, NULL, 0));
    show_bytes(w->bytes, n);
    return EBM_STATUS_OK;
}

static ebm_status sample(work *w) {
    size_t n = w->n_values * w->request.n_replicas;
    TRY(ebm_sample(w->sampler, &w->request, w->n_images, w->ends, n, w->reports, w->n_chains));
    show(w->ends, n);
    show_reports(w->reports, w->n_chains);
    return EBM_STATUS_OK;
}

static ebm_status energies(work *w) {
    float *energies = malloc(w->n_images * sizeof *energies);
    ebm_status status = ebm_energies(w->score, w->images, w->n_images, w->n_values, energies, w->n_images);
    if (status == EBM_STATUS_OK) show(energies, w->n_images);
    free(energies);
    return status;
}

static ebm_status classify(work *w, size_t n_classes) {
    ebm_answers answers;
    ebm_status status;
    size_t i;
    answers.n_logits = w->n_images * n_classes;
    answers.n_predictions = answers.n_agreement = w->n_images;
    answers.logits = malloc(answers.n_logits * sizeof *answers.logits);
    answers.predictions = malloc(w->n_images * sizeof *answers.predictions);
    answers.agreement = malloc(w->n_images * sizeof *answers.agreement);
    if (w->purifier == NULL) {
        status = ebm_classify(w->classifier, w->images, w->n_images, w->n_values, answers);
    } else {
        status = ebm_classify_defended(w->purifier, w->classifier, &w->request, w->images, w->n_images, w->n_values, answers);
    }
    if (status == EBM_STATUS_OK) {
        show(answers.logits, answers.n_logits);
        for (i = 0; i < w->n_images; i++) printf(" | %lu", (unsigned long)answers.predictions[i]);
        show(answers.agreement, w->n_images);
    }
    free(answers.logits);
    free(answers.predictions);
    free(answers.agreement);
    return status;
}

static ebm_status certify(work *w, uint64_t seed) {
    ebm_known_noise noise;
    ebm_certificate certificate;
    ebm_prediction prediction;
    size_t i, n = w->n_values / w->n_images;
    noise.seed = seed;
    for (i = 0; i < w->n_images; i++) {
        noise.index = w->request.first_index + (uint32_t)i;
        TRY(ebm_certify(w->smoothed, &noise, w->images + i * n, n, NULL, NULL, &certificate));
        TRY(ebm_predict(w->smoothed, &noise, w->images + i * n, n, NULL, NULL, &prediction));
        CHECK(certificate.seed == seed && prediction.seed == seed);
        printf(" | %ld %.17g %.17g %ld", (long)certificate.class_index, certificate.radius, certificate.probability,
               (long)prediction.class_index);
    }
    return EBM_STATUS_OK;
}

static ebm_status run(const test_case *c, const char *fixtures, work *w) {
    size_t n_classes = 0;
    TRY(set_up(c, fixtures, w));
    TRY(make_images(c, w));
    if (strcmp(c->what, "energies") == 0) {
        TRY(ebm_score_new(w->model, w->settings, &w->score));
        return energies(w);
    }
    if (strcmp(c->what, "classify") == 0) {
        TRY(ebm_classifier_new(w->model, w->settings, &w->classifier));
        TRY(ebm_model_n_classes(w->model, &n_classes));
        return classify(w, n_classes);
    }
    if (strcmp(c->what, "certify") == 0 || strcmp(c->what, "denoise") == 0) {
        ebm_smoothing smoothing = ebm_smoothing_default(0.25);
        smoothing.n0 = 10;
        smoothing.n = 300;
        smoothing.alpha = 0.01;
        if (strcmp(c->what, "denoise") == 0) TRY(ebm_settings_denoiser(w->settings, smoothing.sigma));
        TRY(ebm_smoothed_new(w->model, w->other, w->settings, smoothing, &w->smoothed));
        return certify(w, is_set(c->seed) ? strtoull(c->seed, NULL, 10) : 0);
    }
    if (strcmp(c->what, "learned") == 0) TRY(ebm_settings_as_learned(w->settings));
    TRY(ebm_purifier_new(w->model, w->settings, is_set(c->seed) ? strtoull(c->seed, NULL, 10) : 0, &w->purifier));
    if (strcmp(c->what, "purify") == 0 || strcmp(c->what, "learned") == 0) return purify(w);
    if (strcmp(c->what, "purify_u8") == 0) return purify_bytes(w);
    if (strcmp(c->what, "defended") == 0) {
        TRY(ebm_classifier_new(w->other, w->settings, &w->classifier));
        TRY(ebm_model_n_classes(w->other, &n_classes));
        return classify(w, n_classes);
    }
    if (strcmp(c->what, "noise") == 0) TRY(ebm_sampler_from_noise(w->purifier, &w->sampler));
    if (strcmp(c->what, "images") == 0) TRY(ebm_sampler_from_images(w->purifier, w->images, w->n_images, w->n_values, &w->sampler));
    if (strcmp(c->what, "generator") == 0) TRY(ebm_sampler_from_generator(w->purifier, w->other, -1, &w->sampler));
    return sample(w);
}

static void tidy_up(work *w) {
    EXPECT(EBM_STATUS_OK, ebm_model_free(w->model));
    EXPECT(EBM_STATUS_OK, ebm_model_free(w->other));
    EXPECT(EBM_STATUS_OK, ebm_settings_free(w->settings));
    EXPECT(EBM_STATUS_OK, ebm_purifier_free(w->purifier));
    EXPECT(EBM_STATUS_OK, ebm_sampler_free(w->sampler));
    EXPECT(EBM_STATUS_OK, ebm_score_free(w->score));
    EXPECT(EBM_STATUS_OK, ebm_classifier_free(w->classifier));
    EXPECT(EBM_STATUS_OK, ebm_smoothed_free(w->smoothed));
    free(w->images);
    free(w->ends);
    free(w->bytes);
    free(w->reports);
    CHECK(ebm_n_handles() == 0);
}

int main(int argc, char **argv) {
    char line[1024];
    FILE *file;
    CHECK(argc == 3);
    file = fopen(argv[2], "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        test_case c;
        work w;
        if (line[0] == '#' || line[0] == '\n') continue;
        CHECK(sscanf(line, "%15s %63s %63s %15s %15s %15s %15s %15s %15s %31s %15s %15s %lu %lu %lu", c.what, c.model, c.other,
                     c.backend, c.steps, c.step_size, c.temperature, c.clip, c.energy_high, c.seed, c.threads, c.batch,
                     &c.n_replicas, &c.first_index, &c.n_images) == N_COLUMNS);
        memset(&w, 0, sizeof w);
        if (run(&c, argv[1], &w) != EBM_STATUS_OK) printf(" error %s", ebm_last_error());
        putchar('\n');
        tidy_up(&w);
    }
    fclose(file);
    return 0;
}
