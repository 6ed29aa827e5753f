/*
 * Purifies a picture: reads it from a PGM (grey) or PPM (colour) file, runs the recommended purification, and writes the result. Where the model has a
 * classifier, it also says what that sees through many purifications.
 *
 *     purify MODEL_DIR IN.ppm OUT.ppm [SEED]
 *
 * Whoever knows the seed knows the noise, and can attack through it: it is fresh, unless one is given to repeat a run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ebm_runtime.h>

typedef struct {
    size_t channels, height, width;
    uint8_t *bytes; /* [H, W, C] */
} picture;

static size_t n_bytes(const picture *p) { return p->channels * p->height * p->width; }

/* Reads a picture of 8 bits a channel. Returns 0 where that fails. */
static int read_picture(const char *path, picture *p) {
    FILE *file = fopen(path, "rb");
    unsigned long width = 0, height = 0, largest = 0;
    char kind = 0;
    int fine = file != NULL && fscanf(file, "P%c %lu %lu %lu", &kind, &width, &height, &largest) == 4 && fgetc(file) != EOF;
    fine = fine && (kind == '5' || kind == '6') && largest == 255 && width - 1 < 65535 && height - 1 < 65535;
    p->bytes = NULL;
    if (fine) {
        p->channels = kind == '5' ? 1 : 3;
        p->height = height;
        p->width = width;
        p->bytes = malloc(n_bytes(p));
        fine = p->bytes != NULL && fread(p->bytes, 1, n_bytes(p), file) == n_bytes(p);
    }
    if (file != NULL) fclose(file);
    if (!fine) fprintf(stderr, "`%s` is no PGM or PPM picture of 8 bits a channel\n", path);
    return fine;
}

/* Returns 0 where that fails. */
static int write_picture(const char *path, const picture *p) {
    FILE *file = fopen(path, "wb");
    int fine = file != NULL;
    fine = fine && fprintf(file, "P%c %lu %lu 255\n", p->channels == 1 ? '5' : '6', (unsigned long)p->width, (unsigned long)p->height) > 0;
    fine = fine && fwrite(p->bytes, 1, n_bytes(p), file) == n_bytes(p);
    if (file != NULL) fine = fclose(file) == 0 && fine;
    if (!fine) fprintf(stderr, "`%s` cannot be written\n", path);
    return fine;
}

/* Returns 0, and says what went wrong, where a call of the library failed. */
static int fine(ebm_status status) {
    if (status != EBM_STATUS_OK) fprintf(stderr, "%s: %s\n", ebm_status_name(status), ebm_last_error());
    return status == EBM_STATUS_OK;
}

static int32_t show_progress(uint64_t n_done, uint64_t n_total, void *user_data) {
    fprintf((FILE *)user_data, "\r%lu of %lu steps", (unsigned long)n_done, (unsigned long)n_total);
    return 0; /* anything else would cancel */
}

/* Whether the picture has the size that the model is for. */
static int fits(const ebm_model *model, const picture *p) {
    ebm_image_shape shape;
    if (!fine(ebm_model_image(model, &shape))) return 0;
    if (shape.channels == p->channels && shape.height == p->height && shape.width == p->width) return 1;
    fprintf(stderr, "the model is for pictures of %lu channels, %lu x %lu pixels\n", (unsigned long)shape.channels,
            (unsigned long)shape.width, (unsigned long)shape.height);
    return 0;
}

/* Says which class the picture is of, by 32 purifications. */
static int classify(const ebm_purifier *purifier, const ebm_model *model, const picture *p) {
    ebm_classifier *classifier = NULL;
    ebm_request request = ebm_request_default();
    size_t class_index = 0;
    float agreement = 0;
    ebm_answers answers;
    int all_fine;
    memset(&answers, 0, sizeof answers);
    answers.predictions = &class_index;
    answers.n_predictions = 1;
    answers.agreement = &agreement;
    answers.n_agreement = 1;
    request.n_replicas = 32;
    all_fine = fine(ebm_classifier_new(model, NULL, &classifier)) &&
               fine(ebm_classify_defended_u8(purifier, classifier, &request, p->bytes, 1, n_bytes(p), answers));
    if (all_fine) printf("class %lu, given by %.0f %% of the purifications\n", (unsigned long)class_index, 100 * agreement);
    ebm_classifier_free(classifier);
    return all_fine;
}

/* The seed that was given, or a fresh one. Returns 0 where that fails. */
static int choose_seed(const char *given, uint64_t *seed) {
    char *end = NULL;
    if (given == NULL) {
        if (!fine(ebm_seed_fresh(seed))) return 0;
    } else {
        *seed = strtoull(given, &end, 10);
        if (*given < '0' || *given > '9' || *end != '\0') {
            fprintf(stderr, "expected a whole number from 0 as SEED, got `%s`\n", given);
            return 0;
        }
    }
    fprintf(stderr, "seed %llu\n", (unsigned long long)*seed);
    return 1;
}

int main(int argc, char **argv) {
    ebm_model *step = NULL, *classifier = NULL;
    ebm_purifier *purifier = NULL;
    ebm_request request = ebm_request_default();
    uint64_t seed = 0;
    picture p = {0, 0, 0, NULL};
    int all_fine;

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "expected MODEL_DIR IN.ppm OUT.ppm [SEED]\n");
        return 2;
    }
    if (ebm_abi() != EBM_ABI) {
        fprintf(stderr, "compiled for another version of the library than %s\n", ebm_version());
        return 2;
    }
    request.on_progress = show_progress;
    request.user_data = stderr;
    all_fine = fine(ebm_folder_open(argv[1], &step, &classifier)) && read_picture(argv[2], &p) && fits(step, &p) &&
               choose_seed(argv[4], &seed) &&
               fine(ebm_purifier_new(step, NULL, seed, &purifier)) && (classifier == NULL || classify(purifier, classifier, &p)) &&
               fine(ebm_purify_u8(purifier, &request, p.bytes, 1, n_bytes(&p), p.bytes, n_bytes(&p), NULL, 0)) &&
               write_picture(argv[3], &p);
    fputc('\n', stderr);

    free(p.bytes);
    ebm_purifier_free(purifier);
    ebm_model_free(classifier);
    ebm_model_free(step);
    return all_fine ? 0 : 1;
}
