/* What std names of an unwinder. The release profile aborts on panic, so none of it ever runs for real;
 * a backtrace comes out empty. Linked only by packaging/static-build.sh. */

typedef void *Context;
typedef int (*Trace)(Context, void *);

int _Unwind_Backtrace(Trace trace, void *argument) {
    (void)trace;
    (void)argument;
    return 0;
}

unsigned long _Unwind_GetIP(Context context) {
    (void)context;
    return 0;
}

unsigned long _Unwind_GetIPInfo(Context context, int *before) {
    (void)context;
    *before = 0;
    return 0;
}

unsigned long _Unwind_GetCFA(Context context) {
    (void)context;
    return 0;
}

void *_Unwind_FindEnclosingFunction(void *address) {
    (void)address;
    return 0;
}
