// A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.
//
// It reports its state, sends an event when it gets too warm, follows the target temperature that the
// cloud asks for, serves the command setTemperature, and does the jobs that it is given.
#define _GNU_SOURCE
#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <nats/nats.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLDEST = 5, HOTTEST = 30, TOO_WARM = 28, SUBJECT = 2048, PAYLOAD = 512 };

static natsConnection *nc;
static jsCtx *js;
static char thing[1024];
static double period; // seconds between two measurements
static sigset_t signals;
static atomic_bool ended;
static sem_t hints; // a job may wait
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // of the target
static double target = 20;
static pthread_mutex_t applying = PTHREAD_MUTEX_INITIALIZER; // one after the other: the target, and its report
static double newest; // version of the shadow that was applied

static const char *variable(const char *name, const char *missing) {
  const char *value = getenv(name);
  return value != NULL ? value : missing;
}

// A name as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX.
static void token(char *out, size_t size, const char *name) {
  for (; *name != '\0' && size > 3; name++) {
    unsigned char b = *name;
    int n = snprintf(out, size, isascii(b) && (isalnum(b) || b == '_' || b == '-') ? "%c" : "=%02X", b);
    out += n, size -= n;
  }
}

// Tells whether this program is to end: signals are blocked, and main takes them.
static bool stopping(void) {
  sigset_t pending;
  sigpending(&pending);
  return ended || sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM);
}

// When this returns, the gateway has the message and will not lose it, or this program is to end.
static void publish(const char *tail, const char *payload) {
  char subject[SUBJECT];
  snprintf(subject, sizeof subject, "fleets.up.%s.%s", thing, tail);
  natsInbox *id = NULL; // or anything else that is unique
  natsInbox_Create(&id);
  jsPubOptions options;
  jsPubOptions_Init(&options);
  options.MsgId = id, options.MaxWait = 2000;
  while (!stopping()) {
    jsErrCode code = 0;
    natsStatus s = js_Publish(NULL, js, subject, payload, (int)strlen(payload), &options, &code);
    if (s == NATS_OK || stopping()) break;
    if (s == NATS_NO_RESPONDERS || s == NATS_CONNECTION_CLOSED) {
      fprintf(stderr, "%s\n", s == NATS_NO_RESPONDERS ? "the Thing is not configured at the gateway" : natsStatus_GetText(s));
      exit(1);
    }
    fprintf(stderr, "%s: %s, trying again\n", tail, natsStatus_GetText(s)); // the same id is not stored twice
    nats_Sleep(500);
  }
  natsInbox_Destroy(id);
}

// Returns the cloud's answer, or NULL after it has said what went wrong.
static cJSON *ask(const char *tail, const char *payload) {
  char subject[SUBJECT];
  snprintf(subject, sizeof subject, "fleets.req.%s.%s", thing, tail);
  natsMsg *request = NULL, *reply = NULL;
  cJSON *answer = NULL;
  const char *error = NULL;
  natsMsg_Create(&request, subject, NULL, payload, (int)strlen(payload));
  natsMsgHeader_Set(request, "Fleets-Worker", "thermostat"); // a job that has begun stays with this name
  natsStatus s = natsConnection_RequestMsg(&reply, nc, request, 15000);
  if (s != NATS_OK)
    fprintf(stderr, "%s: %s\n", tail, natsStatus_GetText(s));
  else if (natsMsgHeader_Get(reply, "Nats-Service-Error", &error) == NATS_OK)
    fprintf(stderr, "%s: %s\n", tail, error);
  else
    answer = cJSON_ParseWithLength(natsMsg_GetData(reply), natsMsg_GetDataLength(reply));
  natsMsg_Destroy(request);
  natsMsg_Destroy(reply);
  return answer;
}

static const cJSON *at(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

// Does what the device can, not what it is told, and reports what came of it. Settings of an older version of the shadow come
// too late: an answer and a delta come on two threads.
static void apply(const cJSON *settings, const cJSON *version) {
  const cJSON *wanted = at(settings, "targetTemperature");
  if (!cJSON_IsNumber(wanted)) return;
  pthread_mutex_lock(&applying);
  if (!cJSON_IsNumber(version) || version->valuedouble >= newest) {
    if (cJSON_IsNumber(version)) newest = version->valuedouble;
    char report[PAYLOAD];
    pthread_mutex_lock(&lock);
    target = fmin(fmax(wanted->valuedouble, COLDEST), HOTTEST);
    snprintf(report, sizeof report, "{\"state\":{\"reported\":{\"targetTemperature\":%.10g}}}", target);
    pthread_mutex_unlock(&lock);
    publish("shadow.update", report);
  }
  pthread_mutex_unlock(&applying);
}

static void on_delta(natsConnection *, natsSubscription *, natsMsg *msg, void *) {
  cJSON *delta = cJSON_ParseWithLength(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
  apply(at(delta, "state"), at(delta, "version"));
  cJSON_Delete(delta);
  natsMsg_Destroy(msg);
}

// Serves the command. The headers of a service's error make it FAILED.
static void on_set_temperature(natsConnection *, natsSubscription *, natsMsg *msg, void *) {
  cJSON *command = cJSON_ParseWithLength(natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
  const cJSON *value = at(at(command, "params"), "value");
  char response[PAYLOAD] = "";
  natsMsg *reply = NULL;
  if (cJSON_IsNumber(value) && value->valuedouble >= COLDEST && value->valuedouble <= HOTTEST) {
    cJSON *settings = cJSON_CreateObject();
    cJSON_AddNumberToObject(settings, "targetTemperature", value->valuedouble);
    apply(settings, NULL);
    cJSON_Delete(settings);
    snprintf(response, sizeof response, "{\"status\":\"SUCCEEDED\",\"result\":{\"targetTemperature\":%.10g}}", value->valuedouble);
    natsMsg_Create(&reply, natsMsg_GetReply(msg), NULL, response, (int)strlen(response));
  } else {
    snprintf(response, sizeof response, "params.value is no number from %d to %d", COLDEST, HOTTEST);
    natsMsg_Create(&reply, natsMsg_GetReply(msg), NULL, NULL, 0);
    natsMsgHeader_Set(reply, "Nats-Service-Error-Code", "400");
    natsMsgHeader_Set(reply, "Nats-Service-Error", response);
  }
  natsConnection_PublishMsg(nc, reply);
  natsMsg_Destroy(reply);
  natsMsg_Destroy(msg);
  cJSON_Delete(command);
}

static void on_notify(natsConnection *, natsSubscription *, natsMsg *msg, void *) {
  natsMsg_Destroy(msg);
  sem_post(&hints);
}

// Does what the cloud asked for while this program was not listening.
static void catch_up(natsConnection *, void *) {
  sem_post(&hints);
  cJSON *shadow = ask("shadow.get", "{}");
  apply(at(shadow, "delta"), at(shadow, "version")); // nothing, when nothing is known yet; what comes is a delta
  cJSON_Delete(shadow);
}

// Does the next job. Returns 1 when it is done, 0 when there is none, -1 when something went wrong.
static int job(void) {
  cJSON *next = ask("jobs.start-next", "{}"), *begun = NULL, *done = NULL;
  const cJSON *execution = at(next, "execution"), *name = at(execution, "jobId");
  int result = next == NULL ? -1 : 0;
  if (cJSON_IsString(name)) {
    char update[SUBJECT] = "jobs.", *end = update + strlen(update);
    token(end, sizeof update - strlen(update) - strlen(".update"), name->valuestring);
    strcat(update, ".update");
    printf("job %s\n", name->valuestring);
    if ((begun = ask(update, "{\"status\":\"IN_PROGRESS\",\"statusDetails\":{\"progress\":\"50 %\"}}")) != NULL) {
      const cJSON *seconds = at(at(execution, "jobDocument"), "seconds");
      if (cJSON_IsNumber(seconds)) nats_Sleep((int64_t)(seconds->valuedouble * 1000));
      done = ask(update, "{\"status\":\"SUCCEEDED\",\"statusDetails\":{\"progress\":\"done\"}}");
    }
    result = done != NULL ? 1 : -1;
  }
  cJSON_Delete(next), cJSON_Delete(begun), cJSON_Delete(done);
  return result;
}

// Does the jobs that wait, now and after each hint. What failed is tried again.
static void *work(void *) {
  catch_up(nc, NULL);
  for (;;) {
    switch (job()) {
    case 0: sem_wait(&hints); break;
    case -1: nats_Sleep((int64_t)(period * 1000)); break;
    }
  }
  return NULL;
}

// Has the temperature follow the target, and reports it.
static void measure(double *temperature) {
  pthread_mutex_lock(&lock);
  double before = *temperature, now = round((before + (target - before) * 0.2) * 100) / 100;
  pthread_mutex_unlock(&lock);
  char payload[PAYLOAD];
  *temperature = now;
  if (now != before) {
    snprintf(payload, sizeof payload, "{\"state\":{\"reported\":{\"temperature\":%.10g}}}", now);
    publish("shadow.update", payload);
  }
  if (before <= TOO_WARM && now > TOO_WARM) {
    snprintf(payload, sizeof payload, "{\"eventType\":\"overheated\",\"severity\":\"warn\",\"data\":{\"temperature\":%.10g}}", now);
    publish("events.overheated", payload);
  }
}

static void must(natsStatus s, const char *what) {
  if (s == NATS_OK || s == NATS_NOT_YET_CONNECTED) return;
  fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(s));
  exit(1);
}

static void start(void) {
  natsOptions *options = NULL;
  must(natsOptions_Create(&options), "options");
  must(natsOptions_SetURL(options, variable("NATS_URL", "nats://127.0.0.1:4222")), "NATS_URL");
  must(natsOptions_SetUserInfo(options, getenv("NATS_USER"), getenv("NATS_PASSWORD")), "NATS_USER");
  must(natsOptions_SetCustomInboxPrefix(options, getenv("NATS_INBOX_PREFIX")), "NATS_INBOX_PREFIX");
  natsOptions_SetMaxReconnect(options, -1);
  natsOptions_SetRetryOnFailedConnect(options, true, catch_up, NULL);
  natsOptions_SetReconnectedCB(options, catch_up, NULL);
  must(natsConnection_Connect(&nc, options), "connect");
  natsOptions_Destroy(options);
  must(natsConnection_JetStream(&js, nc, NULL), "JetStream");

  natsSubscription *delta, *command, *notify;
  char subject[SUBJECT];
  snprintf(subject, sizeof subject, "fleets.down.%s.shadow.update.delta", thing);
  must(natsConnection_Subscribe(&delta, nc, subject, on_delta, NULL), subject);
  snprintf(subject, sizeof subject, "fleets.cmd.%s.setTemperature", thing);
  must(natsConnection_QueueSubscribe(&command, nc, subject, "thermostat", on_set_temperature, NULL), subject);
  snprintf(subject, sizeof subject, "fleets.down.%s.jobs.notify-next", thing);
  must(natsConnection_Subscribe(&notify, nc, subject, on_notify, NULL), subject);
}

int main(void) {
  setlinebuf(stdout);
  token(thing, sizeof thing, variable("THING", "thermostat-001"));
  period = atof(variable("PAUSE", "5"));
  struct timespec pause = {.tv_sec = (time_t)period, .tv_nsec = (long)(fmod(period, 1) * 1e9)};
  sem_init(&hints, 0, 0);
  sigemptyset(&signals), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL); // in the threads to come, too
  start();
  publish("shadow.update", "{\"state\":{\"reported\":{\"temperature\":18,\"targetTemperature\":20}}}");
  pthread_t worker; // a question may take 15 s, and this thread takes the signals
  pthread_create(&worker, NULL, work, NULL);
  double temperature = 18;
  while (sigtimedwait(&signals, NULL, &pause) < 0) measure(&temperature);
  ended = true;
  if (natsConnection_DrainTimeout(nc, 2000) == NATS_OK) // what has come is answered
    for (int i = 0; i < 30 && !natsConnection_IsClosed(nc); i++) nats_Sleep(100);
  return 0;
}
