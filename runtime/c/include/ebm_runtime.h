/*
 * The C interface of ebm-runtime: purification of images, sampling, energies, classification and certificates with energy-based
 * models.
 *
 * cbindgen makes this file from the sources: change those.
 *
 * Errors. A function that can fail returns an ebm_status, EBM_STATUS_OK if all went well; ebm_last_error has the message. After a failure the caller's
 * memory is as it was, but for places for handles, which then hold null.
 *
 * Handles. What a function makes is named by a handle: a pointer in the eyes of C, but a number that is given once and never again, and nothing to read
 * through. A handle that is null, was freed, belongs to something else or was made up is always EBM_STATUS_HANDLE, never a crash. The caller gives each
 * handle back once, with the function that ends in _free; in any order, since objects keep what they need.
 *
 * Memory. The caller owns all buffers and strings that it passes, and the library keeps none of them. Buffers come with the number of their values, which is
 * compared with what the call needs: another number is EBM_STATUS_SHAPE. Null and misaligned pointers are EBM_STATUS_POINTER. That a buffer is as long as
 * stated, and a string ends with 0, is on the caller's word. Input and output may be the same buffer.
 *
 * Threads. All functions may be called from any number of threads at once, with the same handles too. The last error belongs to the thread.
 *
 * Images are f32 [N, C, H, W] in memory order with pixels in [-1, 1], or bytes [N, H, W, C]: N images of C channels, H rows and W columns. A Langevin step is
 * x <- x - (e^2/(2T))*grad E(x) + e*z with step size e, temperature T and standard normal z. A replica is one of several independent purifications of the
 * same image.
 */


#ifndef EBM_RUNTIME_H
#define EBM_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of this interface: it changes when a program that was compiled with an older header must be compiled again.
 */
#define EBM_ABI 2

/**
 * What a call came to. `ebm_last_error` says more.
 */
enum ebm_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * All went well.
   */
  EBM_STATUS_OK = 0,
  /**
   * A file or folder could not be read or written.
   */
  EBM_STATUS_IO = 1,
  /**
   * The bytes are not an ONNX model.
   */
  EBM_STATUS_MODEL = 2,
  /**
   * The model carries no contract, or one that this library does not understand.
   */
  EBM_STATUS_CONTRACT = 3,
  /**
   * The contract has another format version.
   */
  EBM_STATUS_VERSION = 4,
  /**
   * The model's graph or contract is not what its hash was made of.
   */
  EBM_STATUS_TAMPERED = 5,
  /**
   * The model is of another kind than was wanted, a classifier instead of a step for example.
   */
  EBM_STATUS_WRONG_KIND = 6,
  /**
   * A parameter lies outside its range.
   */
  EBM_STATUS_ARGUMENT = 7,
  /**
   * Images or buffers have another size than they must.
   */
  EBM_STATUS_SHAPE = 8,
  /**
   * A value is NaN or infinite.
   */
  EBM_STATUS_NON_FINITE = 9,
  /**
   * The backend is unknown, not compiled in, or its library is missing.
   */
  EBM_STATUS_BACKEND_MISSING = 10,
  /**
   * The backend failed at preparing or running the model.
   */
  EBM_STATUS_BACKEND = 11,
  /**
   * The run was cancelled.
   */
  EBM_STATUS_CANCELLED = 12,
  /**
   * An image file could not be decoded or encoded.
   */
  EBM_STATUS_IMAGE = 13,
  /**
   * An error of a sort that has no number here yet.
   */
  EBM_STATUS_OTHER = 99,
  /**
   * A handle is null, was freed, or is of something else.
   */
  EBM_STATUS_HANDLE = 100,
  /**
   * A pointer is null or not aligned for what it points to, or a string is not UTF-8.
   */
  EBM_STATUS_POINTER = 101,
  /**
   * The library broke down; the message says where. Its handles can still be freed.
   */
  EBM_STATUS_PANIC = 102,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ebm_status ebm_status;
#else
typedef int32_t ebm_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a model computes.
 */
enum ebm_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Something that has no number here yet.
   */
  EBM_KIND_OTHER = 0,
  /**
   * Energies of images.
   */
  EBM_KIND_ENERGY = 1,
  /**
   * Energies and their gradients.
   */
  EBM_KIND_GRADIENT = 2,
  /**
   * Langevin steps: what purifiers and samplers take.
   */
  EBM_KIND_STEP = 3,
  /**
   * Logits of images.
   */
  EBM_KIND_CLASSIFIER = 4,
  /**
   * Images from latents.
   */
  EBM_KIND_GENERATOR = 5,
  /**
   * Several Langevin steps of fixed step size and temperature, for servers.
   */
  EBM_KIND_PURIFIER = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ebm_kind ebm_kind;
#else
typedef int32_t ebm_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Classifies images. Any number of threads may use it at once.
 */
typedef struct ebm_classifier ebm_classifier;

/**
 * An ONNX file whose contract has been checked. Any number of threads may use it at once.
 */
typedef struct ebm_model ebm_model;

/**
 * Purifies images by Langevin steps. Any number of threads may use it at once.
 */
typedef struct ebm_purifier ebm_purifier;

/**
 * Draws samples: Langevin chains from noise, from images, or from what a generator makes. Sample i depends on nothing but seed, start and i. Any number of
 * threads may use it at once.
 */
typedef struct ebm_sampler ebm_sampler;

/**
 * Scores images by their energy: the lower, the more like the images that the energy was learned from. Any number of threads may use it at once.
 */
typedef struct ebm_score ebm_score;

/**
 * Settings. What is not set is as the model's contract recommends. Ranges are checked when something is made with them.
 */
typedef struct ebm_settings ebm_settings;

/**
 * Answers with the class that a classifier gives most often under noise. Any number of threads may use it at once.
 */
typedef struct ebm_smoothed ebm_smoothed;

/**
 * Where the answers for N images go. Any of the pointers may be null for what is not wanted.
 */
typedef struct {
  /**
   * Room for the logits [N, n_classes], of a defended classifier their mean over the replicas.
   */
  float *logits;
  /**
   * N·n_classes.
   */
  size_t n_logits;
  /**
   * Room for the class of the largest logit of each image, from 0.
   */
  size_t *predictions;
  /**
   * N.
   */
  size_t n_predictions;
  /**
   * Room for the share of the replicas that alone would have given the same class, for each image, in [0, 1]; a bare classifier agrees with itself.
   */
  float *agreement;
  /**
   * N.
   */
  size_t n_agreement;
} ebm_answers;

/**
 * A function that is told how far a call has come, in steps of single images: images × replicas × steps. Where it returns anything but 0, the call ends
 * with `EBM_STATUS_CANCELLED` after the steps that it is in.
 *
 * It is called by one thread at a time, which need not be that of the call, and `n_done` never falls. It must return, neither by `longjmp` nor by a C++
 * exception. It may call this library.
 */
typedef int32_t (*ebm_progress)(uint64_t n_done, uint64_t n_total, void *user_data);

/**
 * What a call asks of its chains. Start from `ebm_request_default`. Null in place of a request stands for that too.
 */
typedef struct {
  /**
   * The number of independent purifications of each image, from 1.
   */
  size_t n_replicas;
  /**
   * The index of the first image in the noise; the others follow. The same seed, image and index give the same result, whatever else is in the call.
   */
  uint32_t first_index;
  /**
   * Seconds, from 0: as many steps as fit into this time are taken, and `ebm_report` says how many. INFINITY for all steps.
   */
  double time_limit;
  /**
   * What is told of progress and can cancel the call, or null.
   */
  ebm_progress on_progress;
  /**
   * What `on_progress` is called with.
   */
  void *user_data;
} ebm_request;

/**
 * The shape of one image.
 */
typedef struct {
  /**
   * C, from 1.
   */
  size_t channels;
  /**
   * H in pixels, from 1.
   */
  size_t height;
  /**
   * W in pixels, from 1.
   */
  size_t width;
} ebm_image_shape;

/**
 * Settings of Langevin dynamics that a contract states.
 */
typedef struct {
  /**
   * Number of steps; 0 if the contract states none.
   */
  size_t steps;
  /**
   * Step size ε; 0 if the contract states none.
   */
  double step_size;
  /**
   * Temperature T; 0 if the contract states none.
   */
  double temperature;
} ebm_dynamics;

/**
 * What is known of one chain at its end.
 */
typedef struct {
  /**
   * Place of the image in the call.
   */
  size_t image;
  /**
   * Number of the replica in the noise.
   */
  uint32_t replica;
  /**
   * Steps that were taken: all, unless there was a time limit.
   */
  uint32_t n_steps;
  /**
   * Energy of the image as it was given; NaN if there was no time for a step.
   */
  float energy;
  /**
   * L2 norm of the energy's gradient at the image as it was given; NaN if there was no time for a step.
   */
  float gradient_norm;
  /**
   * The share of the values of the result at or beyond the ends of [-1, 1].
   */
  float saturation;
  /**
   * The step, counted from 0, at which the chain left the finite numbers or its range of energies, so that its image is returned as it was given; -1 if
   * it did not.
   */
  int64_t failed_step;
} ebm_report;

/**
 * How a classifier is smoothed, and how sure of its answers it has to be. Start from `ebm_smoothing_default`.
 */
typedef struct {
  /**
   * Standard deviation of the noise, of pixels in [0, 1]: above 0, up to 1.
   */
  double sigma;
  /**
   * Draws of noise that select the class to certify, from 1.
   */
  size_t n0;
  /**
   * Draws of noise that estimate its probability, from n0 to 100,000; of a prediction all that there are.
   */
  size_t n;
  /**
   * The largest probability of an answer that is wrong about the smoothed classifier, between 0 and 1.
   */
  double alpha;
} ebm_smoothing;

/**
 * Noise that is known: with it, an answer is reproduced.
 */
typedef struct {
  /**
   * The seed that an answer states.
   */
  uint64_t seed;
  /**
   * The index of the image in the noise, 0 if none was given.
   */
  uint32_t index;
} ebm_known_noise;

/**
 * What is certified of an image.
 */
typedef struct {
  /**
   * The class of the smoothed classifier at the image and at all others within the radius, from 0; -1 if there is no certificate.
   */
  int64_t class_index;
  /**
   * The l2 radius, of pixels in [0, 1]; twice that of pixels in [-1, 1]. 0 if there is no certificate.
   */
  double radius;
  /**
   * The lower bound of the probability of the class under noise. 0 if drawing ended early, since there could be no certificate any more.
   */
  double probability;
  /**
   * The seed of the noise.
   */
  uint64_t seed;
} ebm_certificate;

/**
 * What is predicted of an image.
 */
typedef struct {
  /**
   * The class of the smoothed classifier, from 0; -1 if the votes cannot tell it.
   */
  int64_t class_index;
  /**
   * The seed of the noise.
   */
  uint64_t seed;
} ebm_prediction;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Whether a backend can be used here: `EBM_STATUS_OK`, or `EBM_STATUS_BACKEND_MISSING` with the reason and the way out in `ebm_last_error`.
 *
 * `name` is one of "auto", "native", "rten", "tract", "ort", "ort-cuda", "ort-tensorrt", "ort-xnnpack", "ort-coreml" and "ort-directml". `library` is the file of the ONNX Runtime
 * library, or null: then it is looked for as `ORT_DYLIB_PATH` says, beside the executable, in the cache of `cargo xtask setup`, and where the system
 * looks.
 */
ebm_status ebm_backend_check(const char *name,
                             const char *library);

/**
 * Makes a classifier of a model of that kind. Of `settings`, which may be null, the backend and the threads count.
 *
 * The caller owns `*classifier`, which is null after a failure, and gives it back with `ebm_classifier_free`. Fails with `EBM_STATUS_WRONG_KIND`,
 * `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_classifier_new(const ebm_model *model,
                              const ebm_settings *settings,
                              ebm_classifier **classifier);

/**
 * Gives a classifier back. Null is fine; a classifier that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_classifier_free(ebm_classifier *classifier);

/**
 * Classifies `n_images` images as they are, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_classify(const ebm_classifier *classifier,
                        const float *images,
                        size_t n_images,
                        size_t n_values,
                        ebm_answers answers);

/**
 * Like `ebm_classify` for bytes [N, H, W, C].
 */
ebm_status ebm_classify_u8(const ebm_classifier *classifier,
                           const uint8_t *images,
                           size_t n_images,
                           size_t n_values,
                           ebm_answers answers);

/**
 * Classifies `n_images` images, f32 [N, C, H, W] in [-1, 1], each by the mean of its logits over the `n_replicas` independent purifications of `request`.
 *
 * `request` may be null, but then there is a single purification; 32 and more make a defence. `n_values` is N·C·H·W.
 *
 * Fails as `ebm_purify`; a chain that leaves the finite numbers is `EBM_STATUS_NON_FINITE`, and purifier and classifier for images of different shapes are
 * `EBM_STATUS_SHAPE`.
 */
ebm_status ebm_classify_defended(const ebm_purifier *purifier,
                                 const ebm_classifier *classifier,
                                 const ebm_request *request,
                                 const float *images,
                                 size_t n_images,
                                 size_t n_values,
                                 ebm_answers answers);

/**
 * Like `ebm_classify_defended` for bytes [N, H, W, C].
 */
ebm_status ebm_classify_defended_u8(const ebm_purifier *purifier,
                                    const ebm_classifier *classifier,
                                    const ebm_request *request,
                                    const uint8_t *images,
                                    size_t n_images,
                                    size_t n_values,
                                    ebm_answers answers);

/**
 * The number of handles of all types that were given out and not taken back, for programs that look for leaks.
 */
size_t ebm_n_handles(void);

/**
 * Whether a backend can be used here: `EBM_STATUS_OK`, or `EBM_STATUS_BACKEND_MISSING` with the reason and the way out in `ebm_last_error`.
 *
 * `name` is one of "auto", "native", "rten", "tract", "ort", "ort-cuda", "ort-tensorrt", "ort-xnnpack", "ort-coreml" and "ort-directml". `library` is the file of the ONNX Runtime
 * library, or null: then it is looked for as `ORT_DYLIB_PATH` says, beside the executable, in the cache of `cargo xtask setup`, and where the system
 * looks.
 */
ebm_status ebm_backend_check(const char *name,
                             const char *library);

/**
 * Makes a classifier of a model of that kind. Of `settings`, which may be null, the backend and the threads count.
 *
 * The caller owns `*classifier`, which is null after a failure, and gives it back with `ebm_classifier_free`. Fails with `EBM_STATUS_WRONG_KIND`,
 * `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_classifier_new(const ebm_model *model,
                              const ebm_settings *settings,
                              ebm_classifier **classifier);

/**
 * Gives a classifier back. Null is fine; a classifier that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_classifier_free(ebm_classifier *classifier);

/**
 * Classifies `n_images` images as they are, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_classify(const ebm_classifier *classifier,
                        const float *images,
                        size_t n_images,
                        size_t n_values,
                        ebm_answers answers);

/**
 * Like `ebm_classify` for bytes [N, H, W, C].
 */
ebm_status ebm_classify_u8(const ebm_classifier *classifier,
                           const uint8_t *images,
                           size_t n_images,
                           size_t n_values,
                           ebm_answers answers);

/**
 * Classifies `n_images` images, f32 [N, C, H, W] in [-1, 1], each by the mean of its logits over the `n_replicas` independent purifications of `request`.
 *
 * `request` may be null, but then there is a single purification; 32 and more make a defence. `n_values` is N·C·H·W.
 *
 * Fails as `ebm_purify`; a chain that leaves the finite numbers is `EBM_STATUS_NON_FINITE`, and purifier and classifier for images of different shapes are
 * `EBM_STATUS_SHAPE`.
 */
ebm_status ebm_classify_defended(const ebm_purifier *purifier,
                                 const ebm_classifier *classifier,
                                 const ebm_request *request,
                                 const float *images,
                                 size_t n_images,
                                 size_t n_values,
                                 ebm_answers answers);

/**
 * Like `ebm_classify_defended` for bytes [N, H, W, C].
 */
ebm_status ebm_classify_defended_u8(const ebm_purifier *purifier,
                                    const ebm_classifier *classifier,
                                    const ebm_request *request,
                                    const uint8_t *images,
                                    size_t n_images,
                                    size_t n_values,
                                    ebm_answers answers);

/**
 * The number of handles of all types that were given out and not taken back, for programs that look for leaks.
 */
size_t ebm_n_handles(void);

/**
 * Opens an ONNX file and checks its contract, and that graph and contract are those that the file's hash was made of.
 *
 * `path` ends with 0: any bytes on Unix, else UTF-8. The caller owns `*model`, which is null after a failure, and gives it back with `ebm_model_free`;
 * what was made from the model does not need it any longer.
 *
 * Fails with `EBM_STATUS_IO`, `EBM_STATUS_MODEL` (not whole, or not ONNX), `EBM_STATUS_CONTRACT`, `EBM_STATUS_VERSION` or `EBM_STATUS_TAMPERED`.
 */
ebm_status ebm_model_open(const char *path,
                          ebm_model **model);

/**
 * Like `ebm_model_open`, without the hash, for files that were changed on purpose.
 */
ebm_status ebm_model_open_unverified(const char *path, ebm_model **model);

/**
 * Like `ebm_model_open` for the `n_bytes` of an ONNX file in memory, which are copied.
 */
ebm_status ebm_model_from_bytes(const uint8_t *bytes, size_t n_bytes, ebm_model **model);

/**
 * Opens a folder as `ebm-export onnx` writes it: its `step.onnx`, and its `classifier.onnx` if it has one.
 *
 * `folder`, ownership and failures are as for `ebm_model_open`; both models are for images of the same shape. `*classifier` is null if the folder has
 * none. `classifier` may be null for callers that want none.
 */
ebm_status ebm_folder_open(const char *folder,
                           ebm_model **step,
                           ebm_model **classifier);

/**
 * Gives a model back. Null is fine; a model that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_model_free(ebm_model *model);

/**
 * Tells what a model computes.
 */
ebm_status ebm_model_kind(const ebm_model *model, ebm_kind *kind);

/**
 * Tells the shape of the images that a model takes or makes.
 */
ebm_status ebm_model_image(const ebm_model *model, ebm_image_shape *image);

/**
 * Tells the number of classes of a classifier, or of a generator that distinguishes classes; 0 for other models.
 */
ebm_status ebm_model_n_classes(const ebm_model *model, size_t *n_classes);

/**
 * Tells the purification that the contract recommends, which purifiers take if nothing else is set.
 */
ebm_status ebm_model_purification(const ebm_model *model, ebm_dynamics *dynamics);

/**
 * Tells the dynamics under which the energy was learned, which `ebm_settings_as_learned` chooses.
 */
ebm_status ebm_model_learned(const ebm_model *model, ebm_dynamics *dynamics);

/**
 * Makes a purifier for a model of kind step.
 *
 * `settings` may be null: all is as the contract recommends. Whoever knows `seed` knows the noise, and can attack through it: `ebm_seed_fresh` draws one; a
 * number of your own repeats a run. The caller owns `*purifier`, which is null after a failure, and gives it back with
 * `ebm_purifier_free`.
 *
 * Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_ARGUMENT` (a setting out of range, or set neither here nor in the contract),
 * `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_purifier_new(const ebm_model *model,
                            const ebm_settings *settings,
                            uint64_t seed,
                            ebm_purifier **purifier);

/**
 * Makes a purifier with other settings on the loaded model of `other`, which both then share. Backend, library and threads are those of `other`: settings
 * that hold them are `EBM_STATUS_ARGUMENT`.
 *
 * Ownership is as for `ebm_purifier_new`; either purifier may be freed first.
 */
ebm_status ebm_purifier_share(const ebm_purifier *other,
                              const ebm_settings *settings,
                              uint64_t seed,
                              ebm_purifier **purifier);

/**
 * Gives a purifier back. Null is fine; a purifier that was freed is `EBM_STATUS_HANDLE`. A call that uses it on another thread ends as if it were not
 * freed.
 */
ebm_status ebm_purifier_free(ebm_purifier *purifier);

/**
 * Purifies `n_images` images, f32 [N, C, H, W] in [-1, 1], as the model's contract says.
 *
 * - `request` may be null: one purification of each image.
 * - `n_values` is N·C·H·W.
 * - `purified` has room for `n_purified` = n_replicas·N·C·H·W values: replica by replica the purified images [N, C, H, W], of which pixels may lie a little
 *   outside [-1, 1]. It may be the memory of `images`. After a failure it is as before.
 * - `reports` has room for `n_reports` = n_replicas·N reports, replica by replica. It may be null: then a chain that leaves the finite numbers is
 *   `EBM_STATUS_NON_FINITE`, which otherwise its report says.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (also for a pixel that is not finite), `EBM_STATUS_ARGUMENT` (a request out of range),
 * `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_purify(const ebm_purifier *purifier,
                      const ebm_request *request,
                      const float *images,
                      size_t n_images,
                      size_t n_values,
                      float *purified,
                      size_t n_purified,
                      ebm_report *reports,
                      size_t n_reports);

/**
 * Like `ebm_purify` for bytes [N, H, W, C], as image files have them: x = v/127.5 − 1, and back by v = round((x + 1)·127.5), clamped to [0, 255].
 */
ebm_status ebm_purify_u8(const ebm_purifier *purifier,
                         const ebm_request *request,
                         const uint8_t *images,
                         size_t n_images,
                         size_t n_values,
                         uint8_t *purified,
                         size_t n_purified,
                         ebm_report *reports,
                         size_t n_reports);

/**
 * A request for one purification of each image, with indices from 0, all steps, and no reports of progress.
 */
ebm_request ebm_request_default(void);

/**
 * Makes a sampler whose chains start from values that are uniform in [-1, 1].
 *
 * Its steps are those of `purifier`, which it shares: make that with `ebm_settings_as_learned` for the dynamics under which the energy was learned. The
 * caller owns `*sampler`, which is null after a failure, and gives it back with `ebm_sampler_free`; the purifier may be freed before.
 */
ebm_status ebm_sampler_from_noise(const ebm_purifier *purifier,
                                  ebm_sampler **sampler);

/**
 * Makes a sampler whose chains start from images, f32 [N, C, H, W] in [-1, 1], over and over: sample i from image i mod N. `n_values` is N·C·H·W, and N
 * is at least 1. The images are copied.
 *
 * Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_SHAPE` or `EBM_STATUS_ARGUMENT`.
 */
ebm_status ebm_sampler_from_images(const ebm_purifier *purifier,
                                   const float *images,
                                   size_t n_images,
                                   size_t n_values,
                                   ebm_sampler **sampler);

/**
 * Makes a sampler whose chains start from what a generator makes of standard normal latents. The generator runs on the backend of `purifier`.
 *
 * `class_index` is the class of the images, from 0, for a generator that distinguishes classes; negative for one that does not.
 *
 * Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_SHAPE` (images of another shape than the energy's),
 * `EBM_STATUS_ARGUMENT` (a class that the generator does not have) or as `ebm_purifier_new`.
 */
ebm_status ebm_sampler_from_generator(const ebm_purifier *purifier,
                                      const ebm_model *generator,
                                      int64_t class_index,
                                      ebm_sampler **sampler);

/**
 * Gives a sampler back. Null is fine; a sampler that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_sampler_free(ebm_sampler *sampler);

/**
 * Draws `n_samples` samples, f32 [N, C, H, W], of which values may lie outside [-1, 1].
 *
 * - `request` may be null: the samples 0 to N − 1, one chain each. Its `first_index` is the number of the first sample, and its replicas are chains from
 *   the same start.
 * - `samples` has room for `n_values` = n_replicas·N·C·H·W values, and `reports`, which may be null, for `n_reports` = n_replicas·N.
 *
 * All else, failures too, is as for `ebm_purify`.
 */
ebm_status ebm_sample(const ebm_sampler *sampler,
                      const ebm_request *request,
                      size_t n_samples,
                      float *samples,
                      size_t n_values,
                      ebm_report *reports,
                      size_t n_reports);

/**
 * Like `ebm_sample` for bytes [N, H, W, C], clamped to the range of images.
 */
ebm_status ebm_sample_u8(const ebm_sampler *sampler,
                         const ebm_request *request,
                         size_t n_samples,
                         uint8_t *samples,
                         size_t n_values,
                         ebm_report *reports,
                         size_t n_reports);

/**
 * Makes a score with a model of kind energy, gradient or step; the first does the least work. Of `settings`, which may be null, the backend and the
 * threads count.
 *
 * The caller owns `*score`, which is null after a failure, and gives it back with `ebm_score_free`. Fails with `EBM_STATUS_WRONG_KIND`,
 * `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_score_new(const ebm_model *model,
                         const ebm_settings *settings,
                         ebm_score **score);

/**
 * Gives a score back. Null is fine; a score that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_score_free(ebm_score *score);

/**
 * Tells the energy of each of `n_images` images, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W, and `n_energies` is N.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_energies(const ebm_score *score,
                        const float *images,
                        size_t n_images,
                        size_t n_values,
                        float *energies,
                        size_t n_energies);

/**
 * Like `ebm_energies` for bytes [N, H, W, C].
 */
ebm_status ebm_energies_u8(const ebm_score *score,
                           const uint8_t *images,
                           size_t n_images,
                           size_t n_values,
                           float *energies,
                           size_t n_energies);

/**
 * Fits a threshold to images that are as they should, f32 [N, C, H, W] in [-1, 1]: `*threshold` is the energy above which at most the share `rejected`
 * of them lies, in [0, 1). An image whose energy is above it, or not finite, is taken for an outlier.
 *
 * Fails with `EBM_STATUS_ARGUMENT` (a share out of range, or no images) or as `ebm_energies`.
 */
ebm_status ebm_score_fit(const ebm_score *score,
                         const float *images,
                         size_t n_images,
                         size_t n_values,
                         double rejected,
                         float *threshold);

/**
 * Draws a seed that nobody knows, from the random numbers of the operating system. Keep it to repeat what was done with it.
 *
 * Fails with `EBM_STATUS_IO` if the system gives no random numbers.
 */
ebm_status ebm_seed_fresh(uint64_t *seed);

/**
 * Makes settings of which nothing is set. The caller owns `*settings` and gives it back with `ebm_settings_free`. What was made with settings does not
 * change with them, nor need them any longer.
 */
ebm_status ebm_settings_new(ebm_settings **settings);

/**
 * Gives settings back. Null is fine; settings that were freed are `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_settings_free(ebm_settings *settings);

/**
 * Takes the dynamics under which the energy was learned in place of the recommended purification, as sampling does. What else is set goes before.
 */
ebm_status ebm_settings_as_learned(ebm_settings *settings);

/**
 * Sets the number of Langevin steps, from 1; a multiple of the steps that the model takes in one run.
 */
ebm_status ebm_settings_steps(ebm_settings *settings, size_t steps);

/**
 * Sets the step size ε > 0: the noise of a step has this standard deviation.
 */
ebm_status ebm_settings_step_size(ebm_settings *settings, double step_size);

/**
 * Sets the temperature T > 0.
 */
ebm_status ebm_settings_temperature(ebm_settings *settings, double temperature);

/**
 * Sets the largest L2 norm > 0 of an image's drift in a step; none by default.
 */
ebm_status ebm_settings_clip(ebm_settings *settings, double clip);

/**
 * Sets the energies, `low` and `high` included, that a chain may have; all finite ones by default. A chain that leaves them is stopped, and its image
 * returned as it was given.
 */
ebm_status ebm_settings_energy_range(ebm_settings *settings,
                                     float low,
                                     float high);

/**
 * Leaves out the noise of the steps: plain gradient descent down the potential.
 */
ebm_status ebm_settings_without_noise(ebm_settings *settings);

/**
 * Takes the one step without noise that denoises images with Gaussian noise of deviation `sigma`, of pixels in [0, 1]: x - sigma^2*grad U(x), which is
 * x - grad E(x) for an energy learned by denoise matching. It sets steps, step size and temperature.
 */
ebm_status ebm_settings_denoiser(ebm_settings *settings,
                                 double sigma);

/**
 * Sets the number of the first replica in the noise; 0 by default.
 */
ebm_status ebm_settings_replica(ebm_settings *settings, uint32_t replica);

/**
 * Sets the largest number of chains that run as one batch, from 1; 8 by default. It does not change the result.
 */
ebm_status ebm_settings_batch(ebm_settings *settings, size_t batch);

/**
 * Sets the number of threads that a model may use, from 1; all of the machine's by default.
 */
ebm_status ebm_settings_threads(ebm_settings *settings, size_t threads);

/**
 * Sets the backend by a name of those at `ebm_backend_check`; "auto" by default, which is the first of "native", "rten", "tract" and "ort" that is
 * here and takes the model. One that is named is never replaced by another. Fails with `EBM_STATUS_BACKEND_MISSING` if no
 * backend has this name; whether it can be used here shows when something is made with it.
 */
ebm_status ebm_settings_backend(ebm_settings *settings,
                                const char *name);

/**
 * Sets the file of the ONNX Runtime library, or null: then it is looked for as `ebm_backend_check` says. One process loads it once: a later other path is an error.
 * Only the backends "ort…" need it.
 */
ebm_status ebm_settings_library(ebm_settings *settings,
                                const char *path);

/**
 * Lets what a provider of ONNX Runtime does not know run on the CPU, which is an error otherwise.
 */
ebm_status ebm_settings_allow_fallback(ebm_settings *settings);

/**
 * Sets the number of the card, from 0, for the providers that run on one; 0 by default.
 */
ebm_status ebm_settings_device(ebm_settings *settings, uint32_t device);

/**
 * Sets the folder, or null for none, in which TensorRT keeps its engines, so that only the first start is slow.
 */
ebm_status ebm_settings_cache(ebm_settings *settings, const char *folder);

/**
 * Lets TensorRT compute in f16.
 */
ebm_status ebm_settings_f16(ebm_settings *settings);

/**
 * Noise of deviation `sigma`, of pixels in [0, 1], with n0 = 100, n = 10,000 and alpha = 0.001.
 */
ebm_smoothing ebm_smoothing_default(double sigma);

/**
 * Makes a smoothed classifier of a model of that kind, behind the steps of `step`, a model of kind step; null for the classifier alone.
 *
 * `settings`, which may be null, are those of the steps; `ebm_settings_denoiser` makes one step of them that removes the noise. Backend and threads count for
 * both models. The caller owns `*smoothed`, which is null after a failure, and gives it back with `ebm_smoothed_free`.
 *
 * Fails with `EBM_STATUS_ARGUMENT` (a setting or a number of `smoothing` out of range), `EBM_STATUS_SHAPE` (models for images of different shapes),
 * `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_smoothed_new(const ebm_model *classifier,
                            const ebm_model *step,
                            const ebm_settings *settings,
                            ebm_smoothing smoothing,
                            ebm_smoothed **smoothed);

/**
 * Gives a smoothed classifier back. Null is fine; one that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_smoothed_free(ebm_smoothed *smoothed);

/**
 * Certifies one image, f32 [C, H, W] in [-1, 1], by randomised smoothing (Cohen, Rosenfeld and Kolter 2019): with confidence 1 - alpha no image closer than
 * the radius has another class. It holds for the smoothed classifier, whose answers are those of `ebm_predict`, whatever attack is tried, in exact arithmetic,
 * for the image as it comes here.
 *
 * `noise` is null: its seed is drawn now that the image is fixed, and stated in the certificate. Known noise reproduces a certificate, and is no new evidence:
 * an image can be chosen for noise that is known. `on_progress`, which may be null, is told of the draws of noise and can cancel the call; it is called with
 * `user_data`. `n_values` is C*H*W.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite), `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_certify(const ebm_smoothed *smoothed,
                       const ebm_known_noise *noise,
                       const float *image,
                       size_t n_values,
                       ebm_progress on_progress,
                       void *user_data,
                       ebm_certificate *certificate);

/**
 * Like `ebm_certify` for bytes [H, W, C].
 */
ebm_status ebm_certify_u8(const ebm_smoothed *smoothed,
                          const ebm_known_noise *noise,
                          const uint8_t *image,
                          size_t n_values,
                          ebm_progress on_progress,
                          void *user_data,
                          ebm_certificate *certificate);

/**
 * Tells the class of the smoothed classifier at one image, f32 [C, H, W] in [-1, 1], by a vote under noise that is wrong with probability alpha at most.
 * Arguments and failures are those of `ebm_certify`.
 */
ebm_status ebm_predict(const ebm_smoothed *smoothed,
                       const ebm_known_noise *noise,
                       const float *image,
                       size_t n_values,
                       ebm_progress on_progress,
                       void *user_data,
                       ebm_prediction *prediction);

/**
 * Like `ebm_predict` for bytes [H, W, C].
 */
ebm_status ebm_predict_u8(const ebm_smoothed *smoothed,
                          const ebm_known_noise *noise,
                          const uint8_t *image,
                          size_t n_values,
                          ebm_progress on_progress,
                          void *user_data,
                          ebm_prediction *prediction);

/**
 * The message of the last call on this thread that failed, in UTF-8: what was expected, what came, where, and how to mend it. Empty if none has
 * failed.
 *
 * The library owns the string. It is valid until another call fails on this thread, or the thread ends.
 */
const char *ebm_last_error(void);

/**
 * The name of a status, "backend missing" for example; "other" for a number that is not a status. The string is valid for as long as the library is loaded.
 */
const char *ebm_status_name(int32_t status);

/**
 * The version of the library, "0.1.0" for example. The string is valid for as long as the library is loaded.
 */
const char *ebm_version(void);

/**
 * The `EBM_ABI` that the library was built with. If it is not that of the header, compile the program again.
 */
uint32_t ebm_abi(void);

/**
 * Opens an ONNX file and checks its contract, and that graph and contract are those that the file's hash was made of.
 *
 * `path` ends with 0: any bytes on Unix, else UTF-8. The caller owns `*model`, which is null after a failure, and gives it back with `ebm_model_free`;
 * what was made from the model does not need it any longer.
 *
 * Fails with `EBM_STATUS_IO`, `EBM_STATUS_MODEL` (not whole, or not ONNX), `EBM_STATUS_CONTRACT`, `EBM_STATUS_VERSION` or `EBM_STATUS_TAMPERED`.
 */
ebm_status ebm_model_open(const char *path,
                          ebm_model **model);

/**
 * Like `ebm_model_open`, without the hash, for files that were changed on purpose.
 */
ebm_status ebm_model_open_unverified(const char *path, ebm_model **model);

/**
 * Like `ebm_model_open` for the `n_bytes` of an ONNX file in memory, which are copied.
 */
ebm_status ebm_model_from_bytes(const uint8_t *bytes, size_t n_bytes, ebm_model **model);

/**
 * Opens a folder as `ebm-export onnx` writes it: its `step.onnx`, and its `classifier.onnx` if it has one.
 *
 * `folder`, ownership and failures are as for `ebm_model_open`; both models are for images of the same shape. `*classifier` is null if the folder has
 * none. `classifier` may be null for callers that want none.
 */
ebm_status ebm_folder_open(const char *folder,
                           ebm_model **step,
                           ebm_model **classifier);

/**
 * Gives a model back. Null is fine; a model that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_model_free(ebm_model *model);

/**
 * Tells what a model computes.
 */
ebm_status ebm_model_kind(const ebm_model *model, ebm_kind *kind);

/**
 * Tells the shape of the images that a model takes or makes.
 */
ebm_status ebm_model_image(const ebm_model *model, ebm_image_shape *image);

/**
 * Tells the number of classes of a classifier, or of a generator that distinguishes classes; 0 for other models.
 */
ebm_status ebm_model_n_classes(const ebm_model *model, size_t *n_classes);

/**
 * Tells the purification that the contract recommends, which purifiers take if nothing else is set.
 */
ebm_status ebm_model_purification(const ebm_model *model, ebm_dynamics *dynamics);

/**
 * Tells the dynamics under which the energy was learned, which `ebm_settings_as_learned` chooses.
 */
ebm_status ebm_model_learned(const ebm_model *model, ebm_dynamics *dynamics);

/**
 * Makes a purifier for a model of kind step.
 *
 * `settings` may be null: all is as the contract recommends. Whoever knows `seed` knows the noise, and can attack through it: `ebm_seed_fresh` draws one; a
 * number of your own repeats a run. The caller owns `*purifier`, which is null after a failure, and gives it back with
 * `ebm_purifier_free`.
 *
 * Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_ARGUMENT` (a setting out of range, or set neither here nor in the contract),
 * `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_purifier_new(const ebm_model *model,
                            const ebm_settings *settings,
                            uint64_t seed,
                            ebm_purifier **purifier);

/**
 * Makes a purifier with other settings on the loaded model of `other`, which both then share. Backend, library and threads are those of `other`: settings
 * that hold them are `EBM_STATUS_ARGUMENT`.
 *
 * Ownership is as for `ebm_purifier_new`; either purifier may be freed first.
 */
ebm_status ebm_purifier_share(const ebm_purifier *other,
                              const ebm_settings *settings,
                              uint64_t seed,
                              ebm_purifier **purifier);

/**
 * Gives a purifier back. Null is fine; a purifier that was freed is `EBM_STATUS_HANDLE`. A call that uses it on another thread ends as if it were not
 * freed.
 */
ebm_status ebm_purifier_free(ebm_purifier *purifier);

/**
 * Purifies `n_images` images, f32 [N, C, H, W] in [-1, 1], as the model's contract says.
 *
 * - `request` may be null: one purification of each image.
 * - `n_values` is N·C·H·W.
 * - `purified` has room for `n_purified` = n_replicas·N·C·H·W values: replica by replica the purified images [N, C, H, W], of which pixels may lie a little
 *   outside [-1, 1]. It may be the memory of `images`. After a failure it is as before.
 * - `reports` has room for `n_reports` = n_replicas·N reports, replica by replica. It may be null: then a chain that leaves the finite numbers is
 *   `EBM_STATUS_NON_FINITE`, which otherwise its report says.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (also for a pixel that is not finite), `EBM_STATUS_ARGUMENT` (a request out of range),
 * `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_purify(const ebm_purifier *purifier,
                      const ebm_request *request,
                      const float *images,
                      size_t n_images,
                      size_t n_values,
                      float *purified,
                      size_t n_purified,
                      ebm_report *reports,
                      size_t n_reports);

/**
 * Like `ebm_purify` for bytes [N, H, W, C], as image files have them: x = v/127.5 − 1, and back by v = round((x + 1)·127.5), clamped to [0, 255].
 */
ebm_status ebm_purify_u8(const ebm_purifier *purifier,
                         const ebm_request *request,
                         const uint8_t *images,
                         size_t n_images,
                         size_t n_values,
                         uint8_t *purified,
                         size_t n_purified,
                         ebm_report *reports,
                         size_t n_reports);

/**
 * A request for one purification of each image, with indices from 0, all steps, and no reports of progress.
 */
ebm_request ebm_request_default(void);

/**
 * Makes a sampler whose chains start from values that are uniform in [-1, 1].
 *
 * Its steps are those of `purifier`, which it shares: make that with `ebm_settings_as_learned` for the dynamics under which the energy was learned. The
 * caller owns `*sampler`, which is null after a failure, and gives it back with `ebm_sampler_free`; the purifier may be freed before.
 */
ebm_status ebm_sampler_from_noise(const ebm_purifier *purifier,
                                  ebm_sampler **sampler);

/**
 * Makes a sampler whose chains start from images, f32 [N, C, H, W] in [-1, 1], over and over: sample i from image i mod N. `n_values` is N·C·H·W, and N
 * is at least 1. The images are copied.
 *
 * Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_SHAPE` or `EBM_STATUS_ARGUMENT`.
 */
ebm_status ebm_sampler_from_images(const ebm_purifier *purifier,
                                   const float *images,
                                   size_t n_images,
                                   size_t n_values,
                                   ebm_sampler **sampler);

/**
 * Makes a sampler whose chains start from what a generator makes of standard normal latents. The generator runs on the backend of `purifier`.
 *
 * `class_index` is the class of the images, from 0, for a generator that distinguishes classes; negative for one that does not.
 *
 * Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_SHAPE` (images of another shape than the energy's),
 * `EBM_STATUS_ARGUMENT` (a class that the generator does not have) or as `ebm_purifier_new`.
 */
ebm_status ebm_sampler_from_generator(const ebm_purifier *purifier,
                                      const ebm_model *generator,
                                      int64_t class_index,
                                      ebm_sampler **sampler);

/**
 * Gives a sampler back. Null is fine; a sampler that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_sampler_free(ebm_sampler *sampler);

/**
 * Draws `n_samples` samples, f32 [N, C, H, W], of which values may lie outside [-1, 1].
 *
 * - `request` may be null: the samples 0 to N − 1, one chain each. Its `first_index` is the number of the first sample, and its replicas are chains from
 *   the same start.
 * - `samples` has room for `n_values` = n_replicas·N·C·H·W values, and `reports`, which may be null, for `n_reports` = n_replicas·N.
 *
 * All else, failures too, is as for `ebm_purify`.
 */
ebm_status ebm_sample(const ebm_sampler *sampler,
                      const ebm_request *request,
                      size_t n_samples,
                      float *samples,
                      size_t n_values,
                      ebm_report *reports,
                      size_t n_reports);

/**
 * Like `ebm_sample` for bytes [N, H, W, C], clamped to the range of images.
 */
ebm_status ebm_sample_u8(const ebm_sampler *sampler,
                         const ebm_request *request,
                         size_t n_samples,
                         uint8_t *samples,
                         size_t n_values,
                         ebm_report *reports,
                         size_t n_reports);

/**
 * Makes a score with a model of kind energy, gradient or step; the first does the least work. Of `settings`, which may be null, the backend and the
 * threads count.
 *
 * The caller owns `*score`, which is null after a failure, and gives it back with `ebm_score_free`. Fails with `EBM_STATUS_WRONG_KIND`,
 * `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_score_new(const ebm_model *model,
                         const ebm_settings *settings,
                         ebm_score **score);

/**
 * Gives a score back. Null is fine; a score that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_score_free(ebm_score *score);

/**
 * Tells the energy of each of `n_images` images, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W, and `n_energies` is N.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_energies(const ebm_score *score,
                        const float *images,
                        size_t n_images,
                        size_t n_values,
                        float *energies,
                        size_t n_energies);

/**
 * Like `ebm_energies` for bytes [N, H, W, C].
 */
ebm_status ebm_energies_u8(const ebm_score *score,
                           const uint8_t *images,
                           size_t n_images,
                           size_t n_values,
                           float *energies,
                           size_t n_energies);

/**
 * Fits a threshold to images that are as they should, f32 [N, C, H, W] in [-1, 1]: `*threshold` is the energy above which at most the share `rejected`
 * of them lies, in [0, 1). An image whose energy is above it, or not finite, is taken for an outlier.
 *
 * Fails with `EBM_STATUS_ARGUMENT` (a share out of range, or no images) or as `ebm_energies`.
 */
ebm_status ebm_score_fit(const ebm_score *score,
                         const float *images,
                         size_t n_images,
                         size_t n_values,
                         double rejected,
                         float *threshold);

/**
 * Draws a seed that nobody knows, from the random numbers of the operating system. Keep it to repeat what was done with it.
 *
 * Fails with `EBM_STATUS_IO` if the system gives no random numbers.
 */
ebm_status ebm_seed_fresh(uint64_t *seed);

/**
 * Makes settings of which nothing is set. The caller owns `*settings` and gives it back with `ebm_settings_free`. What was made with settings does not
 * change with them, nor need them any longer.
 */
ebm_status ebm_settings_new(ebm_settings **settings);

/**
 * Gives settings back. Null is fine; settings that were freed are `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_settings_free(ebm_settings *settings);

/**
 * Takes the dynamics under which the energy was learned in place of the recommended purification, as sampling does. What else is set goes before.
 */
ebm_status ebm_settings_as_learned(ebm_settings *settings);

/**
 * Sets the number of Langevin steps, from 1; a multiple of the steps that the model takes in one run.
 */
ebm_status ebm_settings_steps(ebm_settings *settings, size_t steps);

/**
 * Sets the step size ε > 0: the noise of a step has this standard deviation.
 */
ebm_status ebm_settings_step_size(ebm_settings *settings, double step_size);

/**
 * Sets the temperature T > 0.
 */
ebm_status ebm_settings_temperature(ebm_settings *settings, double temperature);

/**
 * Sets the largest L2 norm > 0 of an image's drift in a step; none by default.
 */
ebm_status ebm_settings_clip(ebm_settings *settings, double clip);

/**
 * Sets the energies, `low` and `high` included, that a chain may have; all finite ones by default. A chain that leaves them is stopped, and its image
 * returned as it was given.
 */
ebm_status ebm_settings_energy_range(ebm_settings *settings,
                                     float low,
                                     float high);

/**
 * Leaves out the noise of the steps: plain gradient descent down the potential.
 */
ebm_status ebm_settings_without_noise(ebm_settings *settings);

/**
 * Takes the one step without noise that denoises images with Gaussian noise of deviation `sigma`, of pixels in [0, 1]: x - sigma^2*grad U(x), which is
 * x - grad E(x) for an energy learned by denoise matching. It sets steps, step size and temperature.
 */
ebm_status ebm_settings_denoiser(ebm_settings *settings,
                                 double sigma);

/**
 * Sets the number of the first replica in the noise; 0 by default.
 */
ebm_status ebm_settings_replica(ebm_settings *settings, uint32_t replica);

/**
 * Sets the largest number of chains that run as one batch, from 1; 8 by default. It does not change the result.
 */
ebm_status ebm_settings_batch(ebm_settings *settings, size_t batch);

/**
 * Sets the number of threads that a model may use, from 1; all of the machine's by default.
 */
ebm_status ebm_settings_threads(ebm_settings *settings, size_t threads);

/**
 * Sets the backend by a name of those at `ebm_backend_check`; "auto" by default, which is the first of "native", "rten", "tract" and "ort" that is
 * here and takes the model. One that is named is never replaced by another. Fails with `EBM_STATUS_BACKEND_MISSING` if no
 * backend has this name; whether it can be used here shows when something is made with it.
 */
ebm_status ebm_settings_backend(ebm_settings *settings,
                                const char *name);

/**
 * Sets the file of the ONNX Runtime library, or null: then it is looked for as `ebm_backend_check` says. One process loads it once: a later other path is an error.
 * Only the backends "ort…" need it.
 */
ebm_status ebm_settings_library(ebm_settings *settings,
                                const char *path);

/**
 * Lets what a provider of ONNX Runtime does not know run on the CPU, which is an error otherwise.
 */
ebm_status ebm_settings_allow_fallback(ebm_settings *settings);

/**
 * Sets the number of the card, from 0, for the providers that run on one; 0 by default.
 */
ebm_status ebm_settings_device(ebm_settings *settings, uint32_t device);

/**
 * Sets the folder, or null for none, in which TensorRT keeps its engines, so that only the first start is slow.
 */
ebm_status ebm_settings_cache(ebm_settings *settings, const char *folder);

/**
 * Lets TensorRT compute in f16.
 */
ebm_status ebm_settings_f16(ebm_settings *settings);

/**
 * Noise of deviation `sigma`, of pixels in [0, 1], with n0 = 100, n = 10,000 and alpha = 0.001.
 */
ebm_smoothing ebm_smoothing_default(double sigma);

/**
 * Makes a smoothed classifier of a model of that kind, behind the steps of `step`, a model of kind step; null for the classifier alone.
 *
 * `settings`, which may be null, are those of the steps; `ebm_settings_denoiser` makes one step of them that removes the noise. Backend and threads count for
 * both models. The caller owns `*smoothed`, which is null after a failure, and gives it back with `ebm_smoothed_free`.
 *
 * Fails with `EBM_STATUS_ARGUMENT` (a setting or a number of `smoothing` out of range), `EBM_STATUS_SHAPE` (models for images of different shapes),
 * `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_smoothed_new(const ebm_model *classifier,
                            const ebm_model *step,
                            const ebm_settings *settings,
                            ebm_smoothing smoothing,
                            ebm_smoothed **smoothed);

/**
 * Gives a smoothed classifier back. Null is fine; one that was freed is `EBM_STATUS_HANDLE`.
 */
ebm_status ebm_smoothed_free(ebm_smoothed *smoothed);

/**
 * Certifies one image, f32 [C, H, W] in [-1, 1], by randomised smoothing (Cohen, Rosenfeld and Kolter 2019): with confidence 1 - alpha no image closer than
 * the radius has another class. It holds for the smoothed classifier, whose answers are those of `ebm_predict`, whatever attack is tried, in exact arithmetic,
 * for the image as it comes here.
 *
 * `noise` is null: its seed is drawn now that the image is fixed, and stated in the certificate. Known noise reproduces a certificate, and is no new evidence:
 * an image can be chosen for noise that is known. `on_progress`, which may be null, is told of the draws of noise and can cancel the call; it is called with
 * `user_data`. `n_values` is C*H*W.
 *
 * Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite), `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
 */
ebm_status ebm_certify(const ebm_smoothed *smoothed,
                       const ebm_known_noise *noise,
                       const float *image,
                       size_t n_values,
                       ebm_progress on_progress,
                       void *user_data,
                       ebm_certificate *certificate);

/**
 * Like `ebm_certify` for bytes [H, W, C].
 */
ebm_status ebm_certify_u8(const ebm_smoothed *smoothed,
                          const ebm_known_noise *noise,
                          const uint8_t *image,
                          size_t n_values,
                          ebm_progress on_progress,
                          void *user_data,
                          ebm_certificate *certificate);

/**
 * Tells the class of the smoothed classifier at one image, f32 [C, H, W] in [-1, 1], by a vote under noise that is wrong with probability alpha at most.
 * Arguments and failures are those of `ebm_certify`.
 */
ebm_status ebm_predict(const ebm_smoothed *smoothed,
                       const ebm_known_noise *noise,
                       const float *image,
                       size_t n_values,
                       ebm_progress on_progress,
                       void *user_data,
                       ebm_prediction *prediction);

/**
 * Like `ebm_predict` for bytes [H, W, C].
 */
ebm_status ebm_predict_u8(const ebm_smoothed *smoothed,
                          const ebm_known_noise *noise,
                          const uint8_t *image,
                          size_t n_values,
                          ebm_progress on_progress,
                          void *user_data,
                          ebm_prediction *prediction);

/**
 * The message of the last call on this thread that failed, in UTF-8: what was expected, what came, where, and how to mend it. Empty if none has
 * failed.
 *
 * The library owns the string. It is valid until another call fails on this thread, or the thread ends.
 */
const char *ebm_last_error(void);

/**
 * The name of a status, "backend missing" for example; "other" for a number that is not a status. The string is valid for as long as the library is loaded.
 */
const char *ebm_status_name(int32_t status);

/**
 * The version of the library, "0.1.0" for example. The string is valid for as long as the library is loaded.
 */
const char *ebm_version(void);

/**
 * The `EBM_ABI` that the library was built with. If it is not that of the header, compile the program again.
 */
uint32_t ebm_abi(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EBM_RUNTIME_H */
