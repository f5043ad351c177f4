; Debug registers, single-stepping, INT1, RF and GD: SDM volume 3, "Debug, Branch Profile, TSC, and Intel Resource
; Director Technology Features".
%include "guest.inc"

DR6_CLEAR   equ 0xffff0ff0
DR7_FIXED   equ 0x400
B0          equ 1
B1          equ 2
B2          equ 4
B3          equ 8
BD          equ 0x2000
BS          equ 0x4000
L0          equ 1
G0          equ 2
L1          equ 4
L3          equ 0x40
GD          equ 0x2000
%define RW(n, type) ((type) << (16 + (n) * 4))
%define LEN(n, code) ((code) << (18 + (n) * 4))
EXECUTE     equ 0
WRITE       equ 1
PORT        equ 2
ACCESS      equ 3
BYTES1      equ 0
BYTES2      equ 1
BYTES4      equ 3

DATA        equ SCRATCH + 0x100

%macro arm_debug 1              ; DR7
    mov eax, DR6_CLEAR
    mov dr6, eax
    mov eax, %1
    mov dr7, eax
%endmacro
%macro disarm 0
    mov eax, DR7_FIXED
    mov dr7, eax
%endmacro
%macro check_status 1.nolist    ; DR6's varying bits; disarms
    disarm
    mov eax, dr6
    check_eq eax, DR6_CLEAR | (%1)
    mov eax, DR6_CLEAR
    mov dr6, eax
%endmacro
; Runs up to the next check with TF set.
%macro traced 1+
    push dword FLAG_TF | 2
    popfd
    %1
%endmacro

%macro popfd_clean 0            ; two more steps
    push dword 2
    popfd
%endmacro

main:
    group "registers"
    mov eax, 0xffffdfff                 ; all but GD
    mov dr7, eax
    mov eax, dr7
    and eax, ~0x800                     ; bit 11 belongs to transactional memory
    check_eq eax, 0xffff07ff
    disarm
    mov eax, 0
    mov dr6, eax
    mov eax, dr6
    check_eq eax, DR6_CLEAR
    mov eax, 0xffffffff
    mov dr6, eax
    mov eax, dr6
    check_eq eax, 0xffffefff
    mov eax, DR6_CLEAR
    mov dr6, eax
    mov eax, 0x12345678
    mov dr3, eax
    mov ebx, dr3
    check_eq ebx, 0x12345678
    db 0x0f, 0x21, 0xe3         ; MOV EBX, DR4: DR6 while CR4.DE is clear
    check_eq ebx, DR6_CLEAR
    mov eax, CR4_DE
    mov cr4, eax
    expect V_UD, 0, db 0x0f, 0x21, 0xe3
    expect V_UD, 0, db 0x0f, 0x23, 0xeb
    xor eax, eax
    mov cr4, eax

    group "breakpoints on instructions"
    mov eax, .hit
    mov dr0, eax
    arm_debug L0
    expect_at V_DB, 0, .hit, jmp .hit
    check_status B0
    mov eax, [event.flags]
    and eax, FLAG_RF
    check_eq eax, 0                     ; of all faults this one does not set RF in its frame
    jmp .past_hit
.hit:
    nop
    ret
.past_hit:
    mov eax, .hit
    mov dr3, eax
    mov dr0, eax
    arm_debug L3 | G0
    expect_at V_DB, 0, .hit, call .hit
    check_status B0 | B3
    mov eax, .hit
    mov dr1, eax
    xor eax, eax
    mov dr0, eax
    mov dr3, eax
    arm_debug L0                ; DR1 is not enabled
    expect_nothing call .hit
    check_status 0
    set_handler V_DB, count_and_resume
    mov dword [hits], 0
    arm_debug L1
    call .hit                   ; RF, set in the frame, lets the instruction go on
    call .hit
    check_eq [hits], 2
    check_status B1
    push dword FLAG_RF | 2      ; IRET with RF: the breakpoint is passed over once
    push dword CODE32
    push dword .hit2
    mov dword [hits], 0
    mov eax, .hit2
    mov dr1, eax
    arm_debug L1
    mov ecx, 2
    iretd
.hit2:
    dec ecx
    jnz .hit2
    check_eq [hits], 1
    pushfd
    pop eax
    and eax, FLAG_RF
    check_eq eax, 0
    check_status B1
    ; a fault on the instruction comes after its breakpoint
    call restore_handler
    mov eax, .faults
    mov dr1, eax
    arm_debug L1
    expect_at V_DB, 0, .faults, jmp .faults
    check_status B1
    jmp .past_faults
.faults:
    ud2
.past_faults:
    ; REP with a breakpoint: once, before the first iteration
    set_handler V_DB, count_and_resume
    mov dword [hits], 0
    mov eax, .repeat
    mov dr1, eax
    arm_debug L1
    mov edi, DATA
    mov ecx, 5
.repeat:
    rep stosb
    check_eq [hits], 1
    check_status B1
    call restore_handler

    group "breakpoints on data"
    mov eax, DATA
    mov dr0, eax
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES4)
    expect_trap V_DB, 0, mov dword [DATA], 0x12345678
    check_status B0
    check_eq [DATA], 0x12345678         ; a trap: it has been written
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES4)
    expect_nothing mov eax, [DATA]
    expect_trap V_DB, 0, mov byte [DATA + 3], 0
    expect_nothing mov byte [DATA + 4], 0
    expect_nothing mov byte [DATA - 1], 0
    expect_trap V_DB, 0, mov dword [DATA - 3], 0
    expect_trap V_DB, 0, mov dword [DATA + 3], 0
    expect_trap V_DB, 0, inc dword [DATA]
    expect_trap V_DB, 0, lock add dword [DATA], 2
    expect_trap V_DB, 0, xchg eax, [DATA]
    expect_trap V_DB, 0, pop dword [DATA]
    sub esp, 4
    mov edi, DATA
    expect_trap V_DB, 0, stosd
    mov ebx, -1
    expect_trap V_DB, 0, cmpxchg [DATA], ebx    ; writes whatever the comparison says
    check_status B0
    arm_debug L0 | RW(0, ACCESS) | LEN(0, BYTES2)
    expect_trap V_DB, 0, mov eax, [DATA]
    expect_trap V_DB, 0, mov al, [DATA + 1]
    expect_nothing mov al, [DATA + 2]
    expect_trap V_DB, 0, cmp [DATA], eax
    expect_trap V_DB, 0, push dword [DATA]
    mov esi, DATA - 2
    expect_nothing lodsw
    expect_trap V_DB, 0, lodsw
    check_status B0
    mov eax, DATA + 3                   ; the low bits of the address do not count
    mov dr2, eax
    arm_debug (L0 << 4) | RW(2, WRITE) | LEN(2, BYTES4)
    expect_trap V_DB, 0, mov byte [DATA], 1
    check_status B2
    mov eax, DATA + 1
    mov dr2, eax
    arm_debug (L0 << 4) | RW(2, WRITE) | LEN(2, BYTES1)
    expect_nothing mov byte [DATA], 1
    expect_trap V_DB, 0, mov word [DATA], 1
    check_status B2
    ; a breakpoint in a repetition: after the iteration that hits
    mov eax, DATA
    mov dr0, eax
    mov edi, DATA - 2
    mov ecx, 6
    xor eax, eax
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES1)
    call arm_32
    dd V_DB, 0, .string, .string_after, __?LINE?__
.string:
    rep stosb
.string_after:
    call settle_32
    check_status B0
    check_eq ecx, 3
    check_eq edi, DATA + 1
    ; of a faulting instruction nothing is reported
    arm_debug L0 | RW(0, ACCESS) | LEN(0, BYTES4)
    set_descriptor GDT_FREE, SCRATCH, 0x101, ACCESS_DATA, FLAGS_BYTES32
    mov eax, GDT_FREE
    mov es, eax
    expect V_GP, 0, mov eax, [es:0x100]
    check_status 0
    ; the accesses of an exception's delivery and of user code
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES4)
    user_expect_trap V_DB, 0, mov [DATA], eax
    check_status B0
    check_eq [event.cs], USER_CODE32
    ; across two pages
    mov eax, SCRATCH + 0x1000
    mov dr0, eax
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES1)
    expect_trap V_DB, 0, mov dword [SCRATCH + 0xffe], 0
    expect_nothing mov word [SCRATCH + 0xffe], 0
    check_status B0

    group "breakpoints on ports"
    ; covers: CPUID de
    mov eax, CR4_DE
    mov cr4, eax
    mov eax, 0x80
    mov dr0, eax
    arm_debug L0 | RW(0, PORT) | LEN(0, BYTES2)
    expect_trap V_DB, 0, out 0x80, al
    expect_trap V_DB, 0, in al, 0x81
    expect_nothing out 0x82, al
    expect_nothing in al, 0x7f
    expect_trap V_DB, 0, in ax, 0x7f
    mov edx, 0x80
    mov edi, DATA
    expect_trap V_DB, 0, insb
    check_status B0
    xor eax, eax
    mov cr4, eax

    group "single step"
    ; covers: single step
    arm_debug DR7_FIXED
    call arm_32
    dd V_DB, 0, .stepped, .step_after, __?LINE?__
    traced nop
.stepped:
    nop
.step_after:
    call settle_32
    check_status BS
    mov eax, [event.flags]
    check_eq eax, FLAG_TF | 2
    mov eax, [event.handler_flags]
    and eax, FLAG_TF
    check_eq eax, 0                     ; the handler runs untraced
    set_handler V_DB, count_and_return
    mov dword [hits], 0
    traced nop
    nop
    nop
    jmp .jumped
.jumped:
    popfd_clean
    check_eq [hits], 6                  ; NOP NOP NOP JMP PUSH POPFD
    check_status BS
    mov dword [hits], 0                 ; each iteration of a repetition is a step
    mov edi, DATA
    mov ecx, 4
    traced rep stosb
    popfd_clean
    check_eq [hits], 6
    check_status BS
    mov dword [hits], 0
    mov ecx, 0
    traced rep stosb
    popfd_clean
    check_eq [hits], 3
    check_status BS
    ; IRET to traced code: the first trap is after the first instruction there
    mov dword [hits], 0
    push dword FLAG_TF | 2
    push dword CODE32
    push dword .traced_here
    iretd
.traced_here:
    mov eax, [hits]
    mov ebx, [hits]
    popfd_clean
    check_eq eax, 0
    check_eq ebx, 1
    check_status BS
    ; the instruction that clears TF is the last one traced: POPFD above; INT n clears it before
    mov dword [hits], 0
    set_gate idt + 0x80 * 8, CODE32, return_at_once, ACCESS_INT32, 0
    traced int 0x80
    nop
    popfd_clean
    check_eq [hits], 3                  ; NOP PUSH POPFD: the trap of INT is dropped
    check_status BS
    ; no trap between a load of SS and what follows
    mov dword [hits], 0
    mov eax, ss
    traced mov ss, eax
    nop
    popfd_clean
    check_eq [hits], 3                  ; (MOV SS) NOP, PUSH, POPFD
    check_status BS
    mov dword [hits], 0
    push ss
    traced nop
    popfd_clean
    add esp, 4
    check_eq [hits], 3
    check_status BS
    ; a fault takes precedence over the trap of its own instruction
    call restore_handler
    call arm_32
    dd V_UD, 0, .faulting, .fault_after, __?LINE?__
    push dword FLAG_TF | 2
    popfd
.faulting:
    ud2
.fault_after:
    call settle_32
    check_status 0
    ; with a data breakpoint hit in the same instruction both are reported
    mov eax, DATA
    mov dr0, eax
    arm_debug L0 | RW(0, WRITE) | LEN(0, BYTES4)
    call arm_32
    dd V_DB, 0, .both, .both_after, __?LINE?__
    traced mov dword [DATA], 5
.both:
    nop
.both_after:
    call settle_32
    check_status B0 | BS
    ; and with a breakpoint on the next instruction
    mov eax, .next
    mov dr1, eax
    arm_debug L1
    call arm_32
    dd V_DB, 0, .next, .next_after, __?LINE?__
    traced nop
.next:
    nop
.next_after:
    call settle_32
    disarm
    mov eax, dr6
    and eax, BS
    check_eq eax, BS

    group "load of SS and breakpoints"
    mov eax, .after_ss
    mov dr0, eax
    arm_debug L0
    mov eax, ss
    mov ss, eax
.after_ss:
    nop                                 ; its breakpoint is suppressed
    check_status 0

    group "INT1, INT3"
    expect_trap V_DB, 0, db 0xf1
    check_status 0
    user_expect_trap V_DB, 0, db 0xf1   ; the gate's DPL does not matter
    user_expect V_GP, V_DB * 8 + 2, int 1

    group "general detect"
    arm_debug GD
    expect V_DB, 0, mov eax, dr7
    mov eax, dr7
    check_eq eax, DR7_FIXED             ; GD was cleared by the exception
    check_status BD
    arm_debug GD
    expect V_DB, 0, mov dr0, eax
    check_status BD
    arm_debug GD
    user_expect V_GP, 0, mov eax, dr0   ; privilege first
    mov dword [armed.resume], .detect
    mov eax, dr7
.detect:
    mov dword [armed.resume], 0
    check_status BD

    group "64-bit mode"
    go_long
    mov rax, 0x8000000000 | DATA
    mov dr0, rax
    mov rbx, dr0
    check_eq rbx, rax
    mov eax, DATA
    mov dr0, rax
    mov eax, L0 | RW(0, WRITE) | LEN(0, 2)      ; eight bytes
    mov dr7, rax
    expect_trap V_DB, 0, mov byte [DATA + 7], 1
    expect_nothing mov byte [DATA + 8], 1
    mov rax, dr6
    and eax, 0xf
    check_eq rax, B0
    mov eax, DR7_FIXED
    mov dr7, rax
    mov rax, 0x100000000
    expect V_GP, 0, mov dr7, rax
    call arm_64
    dd V_DB, 0, .stepped64, .step_after64, __?LINE?__
    push qword FLAG_TF | 2
    popfq
    nop
.stepped64:
    nop
.step_after64:
    call settle_64
    mov rax, dr6
    and eax, BS
    check_eq rax, BS
    ; SYSCALL with TF masked: no trap at its target
    mov ecx, MSR_STAR
    mov edx, CODE64
    xor eax, eax
    wrmsr
    mov ecx, MSR_LSTAR
    mov eax, .entered
    xor edx, edx
    wrmsr
    mov ecx, MSR_FMASK
    mov eax, FLAG_TF
    wrmsr
    mov eax, DR6_CLEAR
    mov dr6, rax
    mov dword [user.flags], FLAG_TF | 2
    user_expect_at USER_DONE, 0, .entered_end, syscall
    mov ecx, MSR_FMASK
    xor eax, eax
    xor edx, edx
    wrmsr                               ; not masked: the trap is at the target
    user_expect_at V_DB, 0, .entered, syscall
    check_eq [event.cs], CODE64
    mov eax, DR6_CLEAR
    mov dr6, rax
    mov ecx, MSR_STAR                   ; SYSRET brings TF: the trap comes before its target's first instruction
    mov edx, CODE64 | ((USER_CODE64 - 16) << 16)
    xor eax, eax
    wrmsr
    mov rcx, .traced_target
    mov r11d, FLAG_TF | 2
    expect_at V_DB, 0, .traced_target, o64 sysret
    check_eq [event.cs], USER_CODE64
    jmp .end
.traced_target:
    nop
    int USER_DONE
.entered:
    nop
    int USER_DONE
.entered_end:
.end:
    finish

use 32
hits:       dd 0
count_and_resume:
    or dword [esp + 8], FLAG_RF
count_and_return:
    inc dword [hits]
return_at_once:
    iretd
restore_handler:
    set_handler V_DB, stub_1
    ret
