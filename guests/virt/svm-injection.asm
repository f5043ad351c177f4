; SVM: events that VMRUN injects, with error codes, nested faults and what EXITINTINFO says of them: AMD APM volume 2,
; "Event Injection".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

%macro inject 1-2 0                 ; EVENTINJ without its valid bit, error code
    mov dword [EVENTINJ], EVENT_VALID | (%1)
    mov dword [EVENTINJ_ERROR], %2
%endmacro
; The guest ends in its handler, and has this frame: return RIP, bytes of the frame.
%macro handled 2
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_RIP], guest_handler
    check_eq qword [SAVE_RSP], GUEST_STACK_TOP - (%2)
    check_eq qword [GUEST_STACK_TOP - 40], %1
    check_eq qword [GUEST_STACK_TOP - 32], CODE64
    bt dword [EVENTINJ], 31             ; used up
    check_true nc
%endmacro

main:
    go_long
  use 64
    call set_up_svm
    group "SVM injection: interrupts"
    own_table
    gate 0x40, CODE64, 0x8e
    mov qword [SAVE_RFLAGS], FLAG_IF | FLAG_CF | 2
    inject 0x40
    handled interrupted, 40
    check_eq qword [GUEST_STACK_TOP - 24], FLAG_IF | FLAG_CF | 2
    check_eq qword [SAVE_RFLAGS], FLAG_CF | 2
    mov qword [SAVE_RSP], GUEST_STACK_TOP   ; RFLAGS.IF does not matter
    mov qword [SAVE_RFLAGS], 2
    inject 0x40
    handled interrupted, 40
    own_table
    gate 0x40, CODE64, 0x8e
    inject 0x840, 0x1234                    ; only exceptions push error codes
    handled interrupted, 40

    group "SVM injection: NMIs"
    own_table
    gate V_NMI, CODE64, 0x8e
    inject EVENT_NMI | 0x55                 ; the vector is 2
    handled interrupted, 40

    group "SVM injection: exceptions"
    own_table
    gate V_UD, CODE64, 0x8e
    mov dword [EXCEPTIONS], -1              ; what is injected is not intercepted
    inject EVENT_EXCEPTION | V_UD
    handled interrupted, 40
    check_eq qword [GUEST_STACK_TOP - 24], FLAG_RF | 2
    own_table
    gate V_GP, CODE64, 0x8e
    inject EVENT_EXCEPTION | EVENT_ERROR | V_GP, 0x1234
    handled interrupted, 48
    check_eq qword [GUEST_STACK_TOP - 48], 0x1234
    own_table
    gate V_PF, CODE64, 0x8e
    mov qword [SAVE_CR2], 0x5678000
    inject EVENT_EXCEPTION | EVENT_ERROR | V_PF, 6
    handled interrupted, 48
    check_eq qword [SAVE_CR2], 0x5678000    ; CR2 is the hypervisor's matter
    own_table
    gate V_GP, CODE64, 0x8e
    inject EVENT_EXCEPTION | V_GP           ; no error code unless it says so
    handled interrupted, 40

    group "SVM injection: what software would have raised"
    own_table
    gate 0x40, CODE64, 0xee
    mov qword [NRIP], interrupted.next
    inject EVENT_SOFTWARE | 0x40
    handled interrupted.next, 40
    own_table
    gate V_BP, CODE64, 0xee
    mov qword [NRIP], interrupted.next
    inject EVENT_EXCEPTION | V_BP
    handled interrupted.next, 40
    own_table                               ; the gate's privilege level counts
    gate 0x40, CODE64, 0x8e
    gate V_GP, CODE64, 0x8e
    mov byte [SAVE_CPL], 3
    mov word [SAVE_CS], USER_CODE64
    mov word [SAVE_SS], USER_DATA
    or word [SAVE_SS + 2], 0x60
    or word [SAVE_CS + 2], 0x60
    mov qword [NRIP], interrupted.next
    mov dword [EXCEPTIONS], 1 << V_GP
    inject EVENT_SOFTWARE | 0x40
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    check_eq qword [EXITINFO1], 0x40 * 8 + 2
    check_d [EXITINTINFO], EVENT_VALID | EVENT_SOFTWARE | 0x40
    check_eq qword [SAVE_RIP], interrupted

    group "SVM injection: faults on the way"
    own_table                               ; no gate
    mov dword [EXCEPTIONS], 1 << V_GP
    inject 0x40
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_GP
    check_eq qword [EXITINFO1], 0x40 * 8 + 3
    check_d [EXITINTINFO], EVENT_VALID | 0x40
    check_eq qword [SAVE_RIP], interrupted
    own_table
    mov dword [EXCEPTIONS], 1 << V_DF
    inject EVENT_EXCEPTION | EVENT_ERROR | V_GP, 0
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_DF
    own_table
    mov dword [EXCEPTIONS], 1 << V_PF
    mov rax, 0x123456789000
    mov [SAVE_RSP], rax
    gate V_GP, CODE64, 0x8e
    inject EVENT_EXCEPTION | EVENT_ERROR | V_GP, 0x77
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_EXCEPTION + V_PF
    check_eq qword [EXITINFO1], PF_W
    check_d [EXITINTINFO], EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR | V_GP
    check_d [EXITINTINFO + 4], 0x77
    own_table
    inject EVENT_EXCEPTION | EVENT_ERROR | V_DF, 0
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT(I_SHUTDOWN)

    group "SVM injection: before the first instruction"
    own_table
    gate 0x40, CODE64, 0x8e
    mov qword [SAVE_RFLAGS], FLAG_TF | 2
    mov dword [EXCEPTIONS], 1 << V_DB
    inject 0x40
    run_guest_at interrupted
    check_eq qword [EXITCODE], EXIT_VMMCALL     ; the handler runs without TF
    check_eq qword [SAVE_RIP], guest_handler
    finish

interrupted:
    nop
.next:
    hlt
