; SVM: last-branch records, of the host and, virtualized, of a guest: AMD APM volume 2, "Control-Transfer Breakpoint Features",
; "Last Branch Record Virtualization".
;! cpu=epyc
%include "guest.inc"
%include "svm.inc"

DEBUG_CONTROL       equ 0x1d9
BRANCH_FROM         equ 0x1db
BRANCH_TO           equ 0x1dc
EXCEPTION_FROM      equ 0x1dd
EXCEPTION_TO        equ 0x1de
LBR_VIRTUALIZATION  equ 1
V_SOFTWARE          equ 0x60

%macro record 1
    write_msr DEBUG_CONTROL, 0, %1
%endmacro

main:
    go_long
  use 64
    call set_up_svm

    group "SVM branches: registers"
    check_msr DEBUG_CONTROL, 0, 0
    mov ecx, DEBUG_CONTROL
    xor edx, edx
    mov eax, 4
    expect V_GP, 0, wrmsr
    mov ebx, BRANCH_FROM
.read_only:
    mov ecx, ebx
    rdmsr
    mov ecx, ebx
    expect V_GP, 0, wrmsr
    inc ebx
    cmp ebx, EXCEPTION_TO
    jbe .read_only

    group "SVM branches: taken, not taken, calls, loops"
    record 1
.jump:
    jmp .target
    hlt
.target:
    record 0
    check_msr BRANCH_FROM, 0, .jump
    check_msr BRANCH_TO, 0, .target
    record 1
    xor eax, eax
    jnz .not_taken                          ; nothing new
    nop
.not_taken:
    record 0
    check_msr BRANCH_FROM, 0, .jump
    mov ecx, 3
    mov r8d, ecx
    record 1
.again:
    dec r8d
.loops:
    jnz .again
    record 0
    check_msr BRANCH_FROM, 0, .loops
    check_msr BRANCH_TO, 0, .again
    record 1
    mov esi, SVM_FREE
    mov edi, SVM_FREE + 0x100
    mov ecx, 5
    rep movsb                               ; no branch
    record 0
    check_msr BRANCH_FROM, 0, .loops
    record 1
    call .called
.returned:
    record 0
    check_msr BRANCH_FROM, 0, .returns
    check_msr BRANCH_TO, 0, .returned
    jmp .over_called
.called:
    nop
.returns:
    ret
.over_called:

    group "SVM branches: a guest without records of its own"
    fresh_guest
    jmp .over_shared
.shared:
    mov ecx, BRANCH_FROM
    rdmsr
    mov ebx, eax
    vmmcall
.over_shared:
    run_guest_at .shared
    check_eq rbx, .returns

    group "SVM branches: a guest with records of its own"
    ; covers: SVM lbrv
    fresh_guest
    mov qword [VIRT_EXT], LBR_VIRTUALIZATION
    mov qword [SAVE_BRANCH_FROM], 0x1111
    mov qword [SAVE_BRANCH_TO], 0x2222
    mov qword [SAVE_EXCEPTION_FROM], 0x3333
    mov qword [SAVE_EXCEPTION_TO], 0x4444
    jmp .over_own
.own:
    mov ecx, BRANCH_TO
    rdmsr
    mov ebx, eax
    mov ecx, EXCEPTION_TO
    rdmsr
    mov esi, eax
    vmmcall
.over_own:
    run_guest_at .own
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq rbx, 0x2222
    check_eq rsi, 0x4444
    check_eq qword [SAVE_BRANCH_FROM], 0x1111   ; as it was: nothing was recorded
    check_eq qword [SAVE_EXCEPTION_FROM], 0x3333
    check_msr BRANCH_FROM, 0, .returns          ; the host's
    own_table
    mov qword [VIRT_EXT], LBR_VIRTUALIZATION
    mov qword [SAVE_DEBUG_CONTROL], 1
    gate V_SOFTWARE, CODE64, 0x8e
    jmp .over_event
.recorded:
    jmp .raises
    hlt
.raises:
    int V_SOFTWARE
.over_event:
    run_guest_at .recorded
    check_eq qword [EXITCODE], EXIT_VMMCALL
    check_eq qword [SAVE_DEBUG_CONTROL], 1
    check_eq qword [SAVE_BRANCH_FROM], .raises
    check_eq qword [SAVE_BRANCH_TO], guest_handler
    check_eq qword [SAVE_EXCEPTION_FROM], .recorded
    check_eq qword [SAVE_EXCEPTION_TO], .raises
    check_msr DEBUG_CONTROL, 0, 0               ; the host records nothing
    check_msr BRANCH_FROM, 0, .returns
    check_msr EXCEPTION_FROM, 0, 0

    group "SVM branches: a fault, and a debug exception"
    own_table
    mov qword [VIRT_EXT], LBR_VIRTUALIZATION
    mov qword [SAVE_DEBUG_CONTROL], 1
    gate V_UD, CODE64, 0x8e
    gate V_DB, CODE64, 0x8e
    jmp .over_fault
.faults:
    ud2
.debugs:
    jmp .trap
    hlt
.trap:
    db 0xf1                                     ; INT1
.over_fault:
    run_guest_at .faults
    check_eq qword [SAVE_BRANCH_FROM], .faults
    check_eq qword [SAVE_BRANCH_TO], guest_handler
    check_eq qword [SAVE_EXCEPTION_FROM], 0
    mov dword [SAVE_RFLAGS], 2
    mov qword [SAVE_RSP], GUEST_STACK_TOP
    run_guest_at .debugs
    check_eq qword [SAVE_DEBUG_CONTROL], 0      ; #DB ends it
    check_eq qword [SAVE_BRANCH_FROM], .debugs
    check_eq qword [SAVE_BRANCH_TO], .trap

    group "SVM branches: the guest switches them on, and its MSRs can be intercepted"
    fresh_guest
    mov qword [VIRT_EXT], LBR_VIRTUALIZATION
    jmp .over_switch
.switches:
    record 1
.guest_jump:
    jmp .guest_target
    hlt
.guest_target:
    vmmcall
.over_switch:
    run_guest_at .switches
    check_eq qword [SAVE_DEBUG_CONTROL], 1
    check_eq qword [SAVE_BRANCH_FROM], .guest_jump
    check_eq qword [SAVE_BRANCH_TO], .guest_target
    check_msr DEBUG_CONTROL, 0, 0
    finish
