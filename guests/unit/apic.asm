; The local APIC in its memory-mapped form: registers, self-interrupts, priorities, timer in all modes, NMI and its
; blocking until IRET: SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)" and "Handling Multiple NMIs".
%include "guest.inc"

%define apic(offset) [LOCAL_APIC + (offset)]
ID          equ 0x20
VERSION     equ 0x30
TPR         equ 0x80
PPR         equ 0xa0
EOI         equ 0xb0
LDR         equ 0xd0
DFR         equ 0xe0
SVR         equ 0xf0
ISR         equ 0x100
IRR         equ 0x200
ESR         equ 0x280
ICR         equ 0x300
ICR_HIGH    equ 0x310
LVT_TIMER   equ 0x320
LVT_LINT0   equ 0x350
LVT_LINT1   equ 0x360
LVT_ERROR   equ 0x370
TIMER_INIT  equ 0x380
TIMER_NOW   equ 0x390
TIMER_DIV   equ 0x3e0
SELF        equ 1 << 18
ASSERTED    equ 1 << 14
NMI_MODE    equ 4 << 8
MASKED      equ 1 << 16
PERIODIC    equ 1 << 17
DEADLINE    equ 2 << 17

%macro send_self 1
    mov dword apic(ICR), SELF | ASSERTED | (%1)
%endmacro
; How many instructions a message takes to come back is not architecture: the jump gives it time.
%macro send_nmi 0
    mov dword apic(ICR), ASSERTED | NMI_MODE
    jmp short %%sent
%%sent:
    nop
%endmacro
%macro expect_nmi 0.nolist
    mov dword [event.vector], NONE
    mov dword [armed.resume], %%come
    mov [armed.sp], esp
    send_nmi
%%come:
    mov dword [armed.resume], 0
    check_eq [event.vector], V_NMI
%endmacro
; Opens a window: the vector must come.
%macro expect_window 1.nolist
    expect_at %1, 0, window.open, call window
%endmacro
%macro expect_no_window 0.nolist
    expect_nothing call window
%endmacro
%macro end_of_interrupt 0
    mov dword apic(EOI), 0
%endmacro
%macro vector_bit 2.nolist      ; register block, vector: is it set?
    mov eax, apic((%1) + ((%2) / 32) * 0x10)
    shr eax, (%2) % 32
    and eax, 1
%endmacro

main:
    call initialize_pic
    mov ecx, MSR_APIC_BASE
    rdmsr
    and eax, 0xfffff900
    check_eq eax, LOCAL_APIC | 0x900            ; enabled, boot processor
    mov dword apic(SVR), 0x1ff

    group "registers"
    ; covers: CPUID apic
    movzx eax, byte apic(VERSION)
    cmp al, 0x10
    check_true ae
    cmp al, 0x16
    check_true b
    mov dword apic(TPR), 0x55
    mov eax, apic(TPR)
    check_eq eax, 0x55
    mov eax, apic(PPR)
    check_eq eax, 0x55
    mov dword apic(TPR), 0
    mov dword apic(LDR), 0xff123456
    mov eax, apic(LDR)
    check_eq eax, 0xff000000
    mov eax, apic(DFR)
    check_eq eax, 0xffffffff
    mov dword apic(LDR), 0x01000000
    mov dword apic(LVT_TIMER), 0
    mov eax, apic(LVT_TIMER)
    check_eq eax, 0
    mov dword apic(LVT_TIMER), MASKED | 0x40

    group "self-interrupts and priorities"
    send_self 0x41
    vector_bit IRR, 0x41
    check_eq eax, 1
    expect_window 0x41
    vector_bit ISR, 0x41
    check_eq eax, 1
    vector_bit IRR, 0x41
    check_eq eax, 0
    mov eax, apic(PPR)
    check_eq eax, 0x40
    send_self 0x42                              ; the same class: waits
    expect_no_window
    send_self 0x51                              ; a higher one does not
    expect_window 0x51
    mov eax, apic(PPR)
    check_eq eax, 0x50
    end_of_interrupt
    expect_no_window
    end_of_interrupt
    expect_window 0x42
    end_of_interrupt
    mov dword apic(TPR), 0x60
    send_self 0x61
    expect_no_window
    send_self 0x70
    expect_window 0x70
    end_of_interrupt
    expect_no_window
    mov dword apic(TPR), 0x5f
    expect_window 0x61
    end_of_interrupt
    mov dword apic(TPR), 0
    send_self 0x81                              ; several at once: the highest first
    send_self 0xa3
    send_self 0xa2
    send_self 0x90
    expect_window 0xa3
    end_of_interrupt
    expect_window 0xa2
    end_of_interrupt
    expect_window 0x90
    end_of_interrupt
    expect_window 0x81
    end_of_interrupt
    expect_no_window
    ; other ways to name ourselves
    mov eax, apic(ID)
    mov dword apic(ICR_HIGH), eax
    mov dword apic(ICR), ASSERTED | 0x43
    expect_window 0x43
    end_of_interrupt
    mov dword apic(ICR_HIGH), 0x01000000        ; logical, flat
    mov dword apic(ICR), ASSERTED | (1 << 11) | 0x44
    expect_window 0x44
    end_of_interrupt
    mov dword apic(ICR_HIGH), 0x02000000        ; nobody
    mov dword apic(ICR), ASSERTED | (1 << 11) | 0x44
    expect_no_window
    mov dword apic(ICR), (2 << 18) | ASSERTED | 0x45    ; all including self
    expect_window 0x45
    end_of_interrupt
    mov dword apic(ICR), (3 << 18) | ASSERTED | 0x45    ; all but self
    expect_no_window
    mov eax, apic(ICR)
    and eax, 1 << 12
    check_eq eax, 0                             ; delivered
    ; an illegal vector
    mov dword apic(ESR), 0
    send_self 0x05
    mov dword apic(ESR), 0
    mov eax, apic(ESR)
    and eax, 0x60
    check_true nz
    mov dword apic(ESR), 0

    group "timer, one-shot and periodic"
    mov dword apic(TIMER_DIV), 0xb              ; by 1
    mov dword apic(LVT_TIMER), 0x50
    mov dword apic(TIMER_INIT), 20000
    mov eax, apic(TIMER_NOW)
    cmp eax, 20001
    check_true b
    call wait_window
    check_eq [seen], 0x50
    mov eax, apic(TIMER_NOW)
    check_eq eax, 0                             ; stays at zero
    end_of_interrupt
    expect_no_window
    mov dword apic(TIMER_INIT), 100000000
    mov dword apic(TIMER_INIT), 0               ; stops it
    mov eax, apic(TIMER_NOW)
    check_eq eax, 0
    mov dword apic(LVT_TIMER), PERIODIC | 0x50
    mov dword apic(TIMER_INIT), 50000
    mov ebx, 4
.periods:
    call wait_window
    check_eq [seen], 0x50
    end_of_interrupt
    dec ebx
    jnz .periods
    mov dword apic(LVT_TIMER), PERIODIC | MASKED | 0x50
    mov dword apic(TIMER_INIT), 0
    expect_no_window
    ; the divider
    mov dword apic(LVT_TIMER), MASKED | 0x50
    mov dword apic(TIMER_DIV), 0xb
    mov dword apic(TIMER_INIT), -1
    rdtsc
    mov esi, eax
.spin1:
    rdtsc
    sub eax, esi
    cmp eax, 1000000
    jb .spin1
    mov ebx, apic(TIMER_NOW)
    not ebx
    mov dword apic(TIMER_DIV), 0xa              ; by 128
    mov dword apic(TIMER_INIT), -1
    rdtsc
    mov esi, eax
.spin2:
    rdtsc
    sub eax, esi
    cmp eax, 1000000
    jb .spin2
    mov ecx, apic(TIMER_NOW)
    not ecx
    shl ecx, 7                                  ; both counted about the same time
    mov eax, ebx
    shr eax, 1
    cmp ecx, eax
    check_true a
    shl ebx, 1
    cmp ecx, ebx
    check_true b
    mov dword apic(TIMER_INIT), 0

    group "timer, TSC deadline"
    ; covers: CPUID tsc_deadline
    mov eax, 1
    cpuid
    bt ecx, 24
    jnc .no_deadline
    mov dword apic(LVT_TIMER), DEADLINE | 0x52
    rdtsc
    add eax, 1000000
    adc edx, 0
    mov ecx, MSR_TSC_DEADLINE
    wrmsr
    mov esi, eax
    mov edi, edx
    rdmsr
    check_eq eax, esi
    check_eq edx, edi
    mov eax, apic(TIMER_NOW)
    check_eq eax, 0
    mov dword apic(TIMER_INIT), 1000            ; means nothing in this mode
    expect_no_window
    call wait_window
    check_eq [seen], 0x52
    end_of_interrupt
    rdtsc
    sub eax, esi
    sbb edx, edi
    check_eq edx, 0                             ; not before its time
    mov ecx, MSR_TSC_DEADLINE
    rdmsr
    or eax, edx
    check_eq eax, 0                             ; disarmed
    mov eax, 1                                  ; long past: at once
    xor edx, edx
    wrmsr
    expect_window 0x52
    end_of_interrupt
    rdtsc
    add eax, 10000000
    adc edx, 0
    mov ecx, MSR_TSC_DEADLINE
    wrmsr
    xor eax, eax
    xor edx, edx
    wrmsr                                       ; disarms
    expect_no_window
.no_deadline:
    mov dword apic(LVT_TIMER), MASKED

    group "NMI"
    ; covers: blocking of NMIs
    mov eax, apic(ID)                           ; the self shorthand is for fixed interrupts only
    mov dword apic(ICR_HIGH), eax
    expect_nmi                                  ; IF is clear
    ; the library's handler did not return by IRET: NMIs are blocked, and one waits
    expect_nothing call send_twice              ; no more than one waits
    push dword 2
    push dword CODE32
    push dword .unblocked
    expect_at V_NMI, 0, .unblocked, iretd
.unblocked:
    add esp, 12
    push dword 2
    push dword CODE32
    push dword .unblocked2
    iretd
.unblocked2:
    nop
    ; IRET unblocks even when it faults
    expect_nmi
    push dword 2
    push dword GDT_END
    push dword .unblocked
    expect V_GP, GDT_END, iretd
    add esp, 12
    expect_nmi
    ; an NMI in a handler of another exception, and back
    set_handler V_NMI, count_nmi
    call unblock
    mov dword [nmis], 0
    send_nmi
    nop
    check_eq [nmis], 1
    set_handler V_NMI, nested_nmi               ; sends the next one itself
    mov dword [nmis], 0
    mov dword [depth], 0
    mov dword [deepest], 0
    send_nmi
    nop
    check_eq [nmis], 2
    check_eq [deepest], 1                       ; never one within another
    set_handler V_NMI, count_nmi
    mov dword [nmis], 0
    mov eax, ss                                 ; a load of SS keeps NMIs away for one instruction
    mov ebx, ASSERTED | NMI_MODE
    mov ecx, [nmis]
    mov ss, eax
    mov apic(ICR), ebx
    jmp short .shadowed
.shadowed:
    nop
    mov edx, [nmis]
    check_eq edx, 1
    ; LINT0 in NMI mode, behind the 8259; HLT ends with it, whatever IF
    mov dword [nmis], 0
    mov dword apic(LVT_LINT0), NMI_MODE
    mov al, 0xfe
    out 0x21, al
    mov ecx, 1000
    call start_pit
    hlt
    check_eq [nmis], 1
    mov dword apic(LVT_LINT0), MASKED
    finish

send_twice:
    send_nmi
    send_nmi
    ret
unblock:
    pop eax
    push dword 2
    push dword CODE32
    push eax
    iretd
count_nmi:
    inc dword [nmis]
    iretd
nested_nmi:
    inc dword [nmis]
    inc dword [depth]
    push eax
    mov eax, [depth]
    cmp eax, [deepest]
    jbe .no_deeper
    mov [deepest], eax
.no_deeper:
    cmp dword [nmis], 2
    jae .enough
    send_nmi
    nop
    nop
.enough:
    pop eax
    dec dword [depth]
    iretd
nmis:       dd 0
depth:      dd 0
deepest:    dd 0

window:
    sti
    nop
.open:
    nop
    cli
    ret

; Waits with interrupts enabled for the next one, whose vector it leaves in `seen`.
wait_window:
    mov dword [event.vector], NONE
    mov dword [armed.resume], .come
    mov [armed.sp], esp
    sti
    mov ecx, 100000000
.wait:
    pause
    dec ecx
    jnz .wait
    cli
.come:
    mov eax, [event.vector]
    mov [seen], eax
    mov dword [armed.resume], 0
    ret
seen:   dd 0
