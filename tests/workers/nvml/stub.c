/* NVML's library as the host's binding uses it, over a machine that a text file describes, read anew by each call (see machine.py):
 *
 *   line 1     code of nvmlInit, code of nvmlDeviceGetCount, driver version
 *   each more  a GPU: uuid, name, bytes of memory, bytes used, utilisation in %, degrees Celsius, milliwatts
 *
 * Parts are separated by tabs. A part "!15" makes the function that tells it return 15. A function is missing when WITHOUT_<its name> is
 * defined. What was asked is appended to the file that NVML_STUB_ASKED names, if any.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPUS_MAX 16
#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_FOUND 6

enum { UUID, NAME, TOTAL, USED, UTILISATION, TEMPERATURE, POWER, PARTS };
typedef struct { char part[PARTS][96]; } gpu_t;
typedef struct { char part[3][96]; unsigned int count; gpu_t gpus[GPUS_MAX]; } machine_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilisation_t;

static int opened = 0;

static void asked(const char *what, const char *of) {
  const char *path = getenv("NVML_STUB_ASKED");
  FILE *file = path ? fopen(path, "a") : NULL;
  if (!file) return;
  fprintf(file, "%s %s\n", what, of);
  fclose(file);
}

static void split(char *line, char (*parts)[96], int count) {
  line[strcspn(line, "\n")] = 0;
  for (int n = 0; n < count; n++) {
    char *part = strsep(&line, "\t");
    snprintf(parts[n], sizeof parts[n], "%s", part ? part : "");
  }
}

static machine_t machine(void) {
  machine_t found = {0};
  char line[1024];
  FILE *file = fopen(getenv("NVML_STUB_MACHINE"), "r");
  if (!file) abort();
  if (fgets(line, sizeof line, file)) split(line, found.part, 3);
  while (found.count < GPUS_MAX && fgets(line, sizeof line, file)) split(line, found.gpus[found.count++].part, PARTS);
  fclose(file);
  return found;
}

/* The part of the GPU that `handle` stands for: its index and one. */
static int told(void *handle, int part, char *text, size_t length) {
  machine_t now = machine();
  size_t index = (size_t)handle - 1;
  if (!opened) return UNINITIALIZED;
  if (index >= now.count) return INVALID_ARGUMENT;
  const char *value = now.gpus[index].part[part];
  if (value[0] == '!') return atoi(value + 1);
  snprintf(text, length, "%s", value);
  return SUCCESS;
}

static int told_number(void *handle, int part, unsigned long long *value) {
  char text[96] = "";
  int code = told(handle, part, text, sizeof text);
  *value = strtoull(text, NULL, 10);
  return code;
}

int nvmlInitWithFlags(unsigned int flags) {
  (void)flags;
  int code = atoi(machine().part[0]);
  asked("init", "");
  if (code == SUCCESS) opened++;
  return code;
}

int nvmlShutdown(void) {
  asked("shutdown", "");
  if (!opened) return UNINITIALIZED;
  opened--;
  return SUCCESS;
}

const char *nvmlErrorString(int code) {
  static char text[32];
  snprintf(text, sizeof text, "stub's error %d", code);
  return text;
}

#ifndef WITHOUT_nvmlSystemGetDriverVersion
int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
  snprintf(text, length, "%s", machine().part[2]);
  return opened ? SUCCESS : UNINITIALIZED;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetCount_v2
int nvmlDeviceGetCount_v2(unsigned int *count) {
  machine_t now = machine();
  *count = now.count;
  return opened ? atoi(now.part[1]) : UNINITIALIZED;
}
#endif

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
  *handle = (void *)(size_t)(index + 1);
  return !opened ? UNINITIALIZED : index < machine().count ? SUCCESS : INVALID_ARGUMENT;
}

#ifndef WITHOUT_nvmlDeviceGetHandleByUUID
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
  machine_t now = machine();
  asked("handle", uuid);
  if (!opened) return UNINITIALIZED;
  for (unsigned int index = 0; index < now.count; index++)
    if (!strcmp(now.gpus[index].part[UUID], uuid)) return nvmlDeviceGetHandleByIndex_v2(index, handle);
  return NOT_FOUND;
}
#endif

int nvmlDeviceGetUUID(void *handle, char *text, unsigned int length) { return told(handle, UUID, text, length); }

#ifndef WITHOUT_nvmlDeviceGetName
int nvmlDeviceGetName(void *handle, char *text, unsigned int length) { return told(handle, NAME, text, length); }
#endif

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
  int code = told_number(handle, TOTAL, &memory->total);
  if (code == SUCCESS) code = told_number(handle, USED, &memory->used);
  memory->free = memory->total - memory->used;
  return code;
}

#ifndef WITHOUT_nvmlDeviceGetUtilizationRates
int nvmlDeviceGetUtilizationRates(void *handle, utilisation_t *rates) {
  unsigned long long percent;
  int code = told_number(handle, UTILISATION, &percent);
  rates->gpu = rates->memory = (unsigned int)percent;
  return code;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetTemperature
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned int *celsius) {
  unsigned long long degrees;
  int code = told_number(handle, TEMPERATURE, &degrees);
  *celsius = (unsigned int)degrees;
  return sensor == 0 ? code : INVALID_ARGUMENT;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetPowerUsage
int nvmlDeviceGetPowerUsage(void *handle, unsigned int *milliwatts) {
  unsigned long long power;
  int code = told_number(handle, POWER, &power);
  *milliwatts = (unsigned int)power;
  return code;
}
#endif
