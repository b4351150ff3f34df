/* A PKCS #11 module for tests: the one at SIGNET_TEST_MODULE, whose C_Sign does not return while the file
   SIGNET_TEST_HANG exists, and fails with CKR_DEVICE_ERROR while the file SIGNET_TEST_FAIL does; its C_Login does not return while
   the file SIGNET_TEST_HANG_LOGIN exists, and refuses the PIN (CKR_PIN_INCORRECT) while the file SIGNET_TEST_REFUSE does. */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

typedef unsigned long CK_RV;
typedef unsigned long CK_ULONG;

/* CK_FUNCTION_LIST of PKCS #11 2.40: a version and 68 functions; C_Login is the 19th, C_Sign the 44th. */
struct list { unsigned char version[2]; void *function[68]; };
enum { LOGIN = 18, SIGN = 43 };

static struct list ours;
static CK_RV (*sign)(CK_ULONG, unsigned char *, CK_ULONG, unsigned char *, CK_ULONG *);

static CK_RV (*login)(CK_ULONG, CK_ULONG, unsigned char *, CK_ULONG);

static int exists(const char *variable) {
	const char *path = getenv(variable);
	return path != NULL && access(path, F_OK) == 0;
}

static CK_RV slow_sign(CK_ULONG session, unsigned char *data, CK_ULONG length, unsigned char *out, CK_ULONG *room) {
	if (exists("SIGNET_TEST_HANG")) (void)!truncate(getenv("SIGNET_TEST_HANG"), 1); /* says that it hangs */
	while (exists("SIGNET_TEST_HANG")) usleep(2000);
	if (exists("SIGNET_TEST_FAIL")) return 0x30;
	return sign(session, data, length, out, room);
}

static CK_RV slow_login(CK_ULONG session, CK_ULONG user, unsigned char *pin, CK_ULONG length) {
	while (exists("SIGNET_TEST_HANG_LOGIN")) usleep(2000);
	if (exists("SIGNET_TEST_REFUSE")) return 0xa0;
	return login(session, user, pin, length);
}

CK_RV C_GetFunctionList(struct list **out) {
	CK_RV (*get)(struct list **);
	struct list *theirs;
	CK_RV failed;
	void *module = dlopen(getenv("SIGNET_TEST_MODULE"), RTLD_NOW);
	if (module == NULL) return 5;
	*(void **)&get = dlsym(module, "C_GetFunctionList");
	if (get == NULL) return 5;
	failed = get(&theirs);
	if (failed) return failed;
	ours = *theirs;
	*(void **)&sign = ours.function[SIGN];
	ours.function[SIGN] = (void *)slow_sign;
	*(void **)&login = ours.function[LOGIN];
	ours.function[LOGIN] = (void *)slow_login;
	*out = &ours;
	return 0;
}
