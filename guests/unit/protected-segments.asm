; Segment limits, types and privilege of data and stack accesses in 32-bit protected mode: SDM volume 3, "Limit
; Checking", "Type Checking" and "Privilege Level Checking When Accessing Data Segments".
%include "guest.inc"

BYTES       equ GDT_FREE            ; 256 bytes
PAGES       equ BYTES + 8           ; limit 1 in pages: 8 KiB
DOWN32      equ PAGES + 8           ; offsets above 0xfff
DOWN16      equ DOWN32 + 8
READ_ONLY   equ DOWN16 + 8
CODE_XO     equ READ_ONLY + 8
CODE_R      equ CODE_XO + 8
ABSENT      equ CODE_R + 8
SYSTEM      equ ABSENT + 8
DPL1        equ SYSTEM + 8
DPL2        equ DPL1 + 8
CONFORMING3 equ DPL2 + 8
FRESH       equ CONFORMING3 + 8     ; not accessed yet
ABSENT_CODE equ FRESH + 8
STACK16     equ ABSENT_CODE + 8
STACK_SMALL equ STACK16 + 8
ABSENT_DPL3 equ STACK_SMALL + 8
CONFORMING0 equ ABSENT_DPL3 + 8
CODE_SMALL  equ CONFORMING0 + 8
LOCAL       equ CODE_SMALL + 8      ; LDT
LOCAL_GONE  equ LOCAL + 8
TASK_GONE   equ LOCAL_GONE + 8
TASK_FREE   equ TASK_GONE + 8
GATE        equ TASK_FREE + 8
BEYOND      equ GDT_END + 0x10

%macro load_es 1
    mov eax, %1
    mov es, eax
%endmacro
; vector, error code, selector
%macro expect_load 3.nolist
    mov eax, %3
    mov ebx, DATA32
    mov fs, ebx
    expect %1, %2, mov fs, eax
%endmacro
%macro loads 1.nolist
    mov eax, %1
    expect_nothing mov fs, eax
    mov ebx, fs
    check_eq ebx, %1
%endmacro
%macro expect_stack 3.nolist
    mov eax, %3
    expect %1, %2, mov ss, eax
%endmacro
; selector, expected access rights (0: ZF clear)
%macro check_rights 2.nolist
    mov ebx, 0
    mov ecx, %1
    lar ebx, ecx
    check_eq ebx, %2
%endmacro
%macro check_limit 2.nolist
    mov ebx, 0x5a5a
    mov ecx, %1
    lsl ebx, ecx
    check_eq ebx, %2
%endmacro
%macro check_verify 3.nolist    ; selector, readable, writable
    mov ecx, %1
    verr cx
    setz al
    movzx eax, al
    check_eq eax, %2
    verw cx
    setz al
    movzx eax, al
    check_eq eax, %3
%endmacro

%macro on_small_stack 2         ; stack pointer, where to go on after an event
    mov dword [event.vector], NONE
    mov dword [armed.resume], %2
    mov [armed.sp], esp
    mov ebp, SCRATCH
    mov eax, STACK_SMALL
    mov ss, eax
    mov esp, %1
%endmacro
%macro check_stack_fault 1.nolist
    mov dword [armed.resume], 0
    check_eq [event.vector], V_SS
    check_eq [event.error], 0
    check_eq [event.ip], %1
    check_eq [event.ss], STACK_SMALL
%endmacro

main:
    set_descriptor BYTES, SCRATCH, 0xff, ACCESS_DATA, FLAGS_BYTES32
    set_descriptor PAGES, SCRATCH, 1, ACCESS_DATA, FLAGS_PAGES32
    set_descriptor DOWN32, SCRATCH, 0xfff, ACCESS_DOWN, FLAGS_BYTES32
    set_descriptor DOWN16, SCRATCH, 0xfff, ACCESS_DOWN, FLAGS_BYTES16
    set_descriptor READ_ONLY, SCRATCH, 0xff, ACCESS_DATA_RO, FLAGS_BYTES32
    set_descriptor CODE_XO, SCRATCH, 0xff, ACCESS_CODE_XO, FLAGS_BYTES32
    set_descriptor CODE_R, SCRATCH, 0xff, ACCESS_CODE, FLAGS_BYTES32
    set_descriptor ABSENT, SCRATCH, 0xff, ACCESS_DATA & ~0x80, FLAGS_BYTES32
    set_descriptor SYSTEM, SCRATCH, 0xff, ACCESS_TSS32, FLAGS_BYTES16
    set_descriptor DPL1, SCRATCH, 0xff, ACCESS_DATA + 0x20, FLAGS_BYTES32
    set_descriptor DPL2, SCRATCH, 0xff, ACCESS_DATA + 0x40, FLAGS_BYTES32
    set_descriptor CONFORMING3, SCRATCH, 0xff, ACCESS_CONFORMING + DPL3, FLAGS_BYTES32
    set_descriptor FRESH, SCRATCH, 0xff, ACCESS_DATA & ~1, FLAGS_BYTES32
    set_descriptor ABSENT_CODE, SCRATCH, 0xff, ACCESS_CODE & ~0x80, FLAGS_BYTES32
    set_descriptor STACK16, SCRATCH, 0xffff, ACCESS_DATA, FLAGS_BYTES16
    set_descriptor STACK_SMALL, SCRATCH, 0x7ff, ACCESS_DATA, FLAGS_BYTES32
    set_descriptor ABSENT_DPL3, SCRATCH, 0xff, (ACCESS_DATA + DPL3) & ~0x80, FLAGS_BYTES32
    set_descriptor CONFORMING0, SCRATCH, 0xff, ACCESS_CONFORMING, FLAGS_BYTES32
    set_descriptor CODE_SMALL, SCRATCH, 0x1f, ACCESS_CODE, FLAGS_BYTES32
    set_descriptor LOCAL, SCRATCH + 0x1000, 0x1f, ACCESS_LDT, FLAGS_BYTES16
    set_descriptor LOCAL_GONE, SCRATCH + 0x1000, 0x1f, ACCESS_LDT & ~0x80, FLAGS_BYTES16
    set_descriptor TASK_GONE, SCRATCH + 0x1000, 0x67, ACCESS_TSS32 & ~0x80, FLAGS_BYTES16
    set_descriptor TASK_FREE, SCRATCH + 0x1000, 0x67, ACCESS_TSS32, FLAGS_BYTES16
    set_gate gdt + GATE, CODE32, 0x1234, ACCESS_CALL32, 0

    xor eax, eax
    lldt ax
    group "limit in bytes"
    ; covers: limits of segments
    load_es BYTES
    mov dword [SCRATCH + 0xfc], 0x44332211
    mov dword [SCRATCH + 0x100], 0x88776655
    expect_nothing mov al, [es:0xff]
    expect_nothing mov eax, [es:0xfc]
    check_eq eax, 0x44332211
    expect V_GP, 0, mov al, [es:0x100]
    load_es BYTES                       ; the handler loads the flat segment
    expect V_GP, 0, mov ax, [es:0xff]
    load_es BYTES
    expect V_GP, 0, mov [es:0xff], ax
    load_es BYTES
    expect V_GP, 0, mov eax, [es:0xfd]
    load_es BYTES
    expect V_GP, 0, inc dword [es:0xfd]
    load_es BYTES
    mov ebx, -1
    expect V_GP, 0, mov al, [es:ebx]
    load_es BYTES
    expect V_GP, 0, mov eax, [es:ebx]   ; the end wraps to offset 2
    load_es BYTES
    expect V_GP, 0, fld qword [es:0xf9]
    load_es BYTES
    mov edi, 0xfe
    mov ecx, 4
    mov al, 0x5a
    expect V_GP, 0, rep stosb
    check_eq edi, 0x100
    check_eq ecx, 2
    load_es BYTES
    mov byte [SCRATCH + 0x100], 1
    expect V_GP, 0, cmp byte [es:0x100], 1
    check_eq [SCRATCH + 0xfc], 0x5a5a2211
    mov eax, 0x80
    load_es BYTES
    mov eax, 0x800                      ; a bit string reaches beyond its operand
    expect V_GP, 0, bts [es:0], eax
    load_es BYTES
    mov eax, -8
    expect V_GP, 0, bt [es:0], eax
    load_es BYTES
    mov eax, 0x7ff
    expect_nothing bt [es:0], eax

    group "limit in pages"
    load_es PAGES
    expect_nothing mov al, [es:0x1fff]
    expect V_GP, 0, mov al, [es:0x2000]
    load_es PAGES
    expect V_GP, 0, mov eax, [es:0x1ffd]

    group "expand-down"
    load_es DOWN32
    expect_nothing mov al, [es:0x1000]
    expect_nothing mov dword [es:0x1000], 1
    expect V_GP, 0, mov al, [es:0xfff]
    load_es DOWN32
    expect V_GP, 0, mov eax, [es:0xffd]
    load_es DOWN32
    expect V_GP, 0, mov al, [es:0]
    load_es DOWN32
    mov dword [0x100], 0x12345678       ; SCRATCH + offset wraps at 4 GiB
    mov ebx, 0x100 - SCRATCH
    expect_nothing mov eax, [es:ebx]
    check_eq eax, 0x12345678
    load_es DOWN16
    expect_nothing mov ax, [es:0x1000]
    expect_nothing mov ax, [es:0xfffe]
    expect V_GP, 0, mov ax, [es:0xffff]
    load_es DOWN16
    expect V_GP, 0, mov al, [es:0x10000]
    load_es DOWN16
    expect V_GP, 0, mov al, [es:0xfff]

    group "types"
    load_es READ_ONLY
    expect_nothing mov al, [es:0]
    expect V_GP, 0, mov [es:0], al
    load_es READ_ONLY
    expect V_GP, 0, inc byte [es:0]
    load_es READ_ONLY
    mov eax, 1
    expect V_GP, 0, cmpxchg [es:0], eax ; writes even where the comparison fails
    load_es READ_ONLY
    expect V_GP, 0, xchg [es:0], eax
    load_es READ_ONLY
    expect_nothing cmp [es:0], al
    load_es READ_ONLY
    expect V_GP, 0, setc [es:0]
    load_es READ_ONLY
    expect V_GP, 0, pop dword [es:0]
    load_es CODE_R
    expect_nothing mov al, [es:0xff]
    expect V_GP, 0, mov [es:0], al
    expect V_GP, 0, mov byte [cs:SCRATCH], 1
    expect_nothing mov al, [cs:SCRATCH]
    load_es 0
    expect V_GP, 0, mov al, [es:0]
    load_es 3
    expect V_GP, 0, mov [es:0], al
    load_es 0
    expect_nothing lea eax, [es:0]
    mov edi, 0
    mov ecx, 0
    load_es 0
    expect_nothing rep stosb            ; nothing accessed, nothing checked

    group "loads of data segment registers"
    loads 0
    loads 1
    loads 3
    loads DATA32 + 0
    loads BYTES
    loads DPL1 + 1
    loads DPL2 + 2
    loads USER_DATA
    loads USER_DATA & ~3
    loads CODE_R
    loads CONFORMING3 + 3
    loads CONFORMING0 + 3
    expect_load V_GP, GDT_END, GDT_END
    expect_load V_GP, 0xfffc, 0xffff
    expect_load V_GP, SYSTEM, SYSTEM
    expect_load V_GP, GATE, GATE + 2
    expect_load V_GP, CODE_XO, CODE_XO
    expect_load V_NP, ABSENT, ABSENT
    expect_load V_NP, ABSENT_CODE, ABSENT_CODE
    expect_load V_NP, ABSENT_DPL3 & ~3, ABSENT_DPL3 + 3
    expect_load V_GP, ABSENT, ABSENT + 1        ; privilege is looked at before presence
    expect_load V_GP, BYTES, BYTES + 1          ; RPL above DPL
    expect_load V_GP, DPL1, DPL1 + 2
    expect_load V_GP, CODE_R, CODE_R + 3
    expect_load V_GP, 0xc, 0xc                  ; no LDT
    check_eq [event.fs], DATA32                 ; a failed load leaves the register alone
    mov eax, [gdt + FRESH + 4]
    test eax, 0x100
    check_true z
    loads FRESH
    mov eax, [gdt + FRESH + 4]
    test eax, 0x100
    check_true nz
    mov dword [SCRATCH + 0x20], 0x12345678
    mov word [SCRATCH + 0x24], ABSENT
    mov ebx, 7
    expect V_NP, ABSENT, lfs ebx, [SCRATCH + 0x20]
    check_eq ebx, 7
    mov word [SCRATCH + 0x24], BYTES
    expect_nothing lfs ebx, [SCRATCH + 0x20]
    check_eq ebx, 0x12345678
    mov ebx, fs
    check_eq ebx, BYTES
    expect_nothing lgs bx, [SCRATCH + 0x22]
    mov esi, esp
    push dword ABSENT
    mov edi, esp
    expect V_NP, ABSENT, pop es
    check_eq [event.sp], edi
    mov esp, esi
    push word 0
    push word DPL1 + 1
    pop es
    mov edi, esp
    check_eq edi, esi
    mov ebx, es
    check_eq ebx, DPL1 + 1
    push dword 0xffff0000 + DATA32
    pop es                              ; the upper half does not count
    mov ebx, es
    check_eq ebx, DATA32

    group "loads of SS"
    expect_stack V_GP, 0, 0
    expect_stack V_GP, 0, 3
    expect_stack V_GP, GDT_END, GDT_END
    expect_stack V_GP, READ_ONLY, READ_ONLY
    expect_stack V_GP, CODE_R, CODE_R
    expect_stack V_GP, SYSTEM, SYSTEM
    expect_stack V_SS, ABSENT, ABSENT
    expect_stack V_GP, DATA32, DATA32 + 1
    expect_stack V_GP, DPL1, DPL1
    expect_stack V_GP, USER_DATA & ~3, USER_DATA
    expect_stack V_GP, DPL1, DPL1 + 1
    mov [.same_stack], esp
    lss esp, [.same_stack]
    jmp .stack_accesses
.same_stack:
    dd 0
    dw DATA32
.stack_accesses:
    group "stack accesses"
    mov [SCRATCH + 0x7fc], dword 0x11223344
    on_small_stack 0x600, .after1
    mov ebx, 0x800
.at1:
    mov al, [ss:ebx]
    fail
.after1:
    check_stack_fault .at1
    on_small_stack 0x7fe, .after2
.at2:
    pop eax
    fail
.after2:
    check_stack_fault .at2
    check_eq [event.sp], 0x7fe
    on_small_stack 0x600, .after3
    mov ebp, 0x7fd
.at3:
    add dword [ebp], 1
    fail
.after3:
    check_stack_fault .at3
    on_small_stack 0x600, .after4
    mov ebp, 0x800
.at4:
    leave
    fail
.after4:
    check_stack_fault .at4
    check_eq ebp, 0x800
    on_small_stack 0x600, .after5
    mov ebp, 0x900
.at5:
    enter 8, 2                          ; reads a frame pointer beyond the limit
    fail
.after5:
    check_stack_fault .at5
    check_eq [event.sp], 0x600
    check_eq ebp, 0x900
    on_small_stack 0x7f0, .after6
.at6:
    popad
    fail
.after6:
    check_stack_fault .at6
    check_eq [event.sp], 0x7f0
    on_small_stack 0x7fc, .after7
.at7:
    retf
    fail
.after7:
    check_stack_fault .at7
    on_small_stack 0x7f6, .after8
.at8:
    iretd
    fail
.after8:
    check_stack_fault .at8
    on_small_stack 0x7f6, .after9
    mov ebx, -8
.at9:
    mov eax, [ebp + ebx]                ; EBP as base: the stack segment
    fail
.after9:
    check_stack_fault .at9
    expect_nothing mov eax, [ds:ebp + ebx]
    mov dword [SCRATCH + 0xfffc], 0x55667788
    mov ebp, esp
    mov eax, STACK16
    mov ss, eax
    mov esp, 0x12340000         ; the upper half is not part of the address, and stays
    push dword 0x99aabbcc
    mov edx, esp
    mov ecx, [SCRATCH + 0xfffc]
    pop ebx
    mov esi, esp
    mov eax, DATA32
    mov ss, eax
    mov esp, ebp
    check_eq edx, 0x1234fffc
    check_eq ecx, 0x99aabbcc
    check_eq ebx, 0x99aabbcc
    check_eq esi, 0x12340000

    group "LAR, LSL, VERR, VERW, ARPL"
    check_rights DATA32, 0x00cf9300
    check_rights CODE_XO, 0x00409900
    check_rights ABSENT, 0x00401300
    check_rights SYSTEM, 0x00008900
    check_rights GATE, 0x00008c00
    check_rights TASK, 0x00008b00
    check_rights LOCAL, 0x00008200
    check_rights 0, 0
    check_rights GDT_END, 0
    check_rights DPL1 + 2, 0
    check_rights CONFORMING0 + 3, 0x00409f00
    check_limit DATA32, 0xffffffff
    check_limit BYTES, 0xff
    check_limit PAGES, 0x1fff
    check_limit DOWN32, 0xfff
    check_limit SYSTEM, 0xff
    check_limit LOCAL, 0x1f
    check_limit GATE, 0x5a5a
    check_limit 0, 0x5a5a
    check_limit DPL1 + 2, 0x5a5a
    mov dword [idt - 8], 0
    mov eax, [gdt + SYSTEM + 4]
    mov byte [gdt + SYSTEM + 5], 0x86   ; an interrupt gate has no rights to show, and no limit
    check_rights SYSTEM, 0
    check_limit SYSTEM, 0x5a5a
    mov byte [gdt + SYSTEM + 5], 0x85   ; a task gate has rights
    check_rights SYSTEM, 0x00008500
    check_limit SYSTEM, 0x5a5a
    mov byte [gdt + SYSTEM + 5], 0x80   ; a reserved type
    check_rights SYSTEM, 0
    mov [gdt + SYSTEM + 4], eax
    check_verify DATA32, 1, 1
    check_verify READ_ONLY, 1, 0
    check_verify CODE_R, 1, 0
    check_verify CODE_XO, 0, 0
    check_verify CONFORMING0 + 3, 1, 0
    check_verify DPL1 + 2, 0, 0
    check_verify DPL1 + 1, 1, 1
    check_verify SYSTEM, 0, 0
    check_verify ABSENT, 1, 1           ; presence is not looked at
    check_verify 0, 0, 0
    mov eax, 0x10
    mov ebx, 3
    arpl ax, bx
    check_true z
    check_eq eax, 0x13
    mov ebx, 2
    arpl ax, bx
    check_true nz
    check_eq eax, 0x13
    mov word [SCRATCH], BYTES
    lar eax, [SCRATCH]
    check_eq eax, 0x00409300
    lar ax, [SCRATCH]
    check_eq eax, 0x00409300            ; 16 bits of it

    group "local descriptor table"
    mov eax, DATA32
    expect V_GP, DATA32, lldt ax
    mov eax, LOCAL + 4
    expect V_GP, LOCAL + 4, lldt ax
    mov eax, GDT_END
    expect V_GP, GDT_END, lldt ax
    mov eax, LOCAL_GONE
    expect V_NP, LOCAL_GONE, lldt ax
    mov eax, LOCAL
    expect_nothing lldt ax
    mov eax, -1
    sldt eax
    check_eq eax, LOCAL
    mov dword [SCRATCH + 0x1000], 0x0000ffff
    mov dword [SCRATCH + 0x1004], 0x00cf9300
    mov dword [SCRATCH + 0x1008], 0x00000fff | ((SCRATCH & 0xffff) << 16)
    mov dword [SCRATCH + 0x100c], 0x00409200 | (SCRATCH >> 16)
    mov dword [SCRATCH], 0x13579bdf
    load_es 0xc
    expect_nothing mov eax, [es:0]
    check_eq eax, 0x13579bdf
    load_es 0xc
    expect V_GP, 0, mov al, [es:0x1000]
    mov eax, [SCRATCH + 0x100c]
    check_eq eax, 0x00409300 | (SCRATCH >> 16)
    expect_load V_GP, 0x24, 0x24        ; beyond its limit
    loads 4                             ; index 0 of the LDT is no null selector
    xor eax, eax
    expect_nothing lldt ax
    expect_load V_GP, 0xc, 0xc

    group "task register"
    xor eax, eax
    expect V_GP, 0, ltr ax
    mov eax, TASK
    expect V_GP, TASK, ltr ax           ; busy
    mov eax, LOCAL
    expect V_GP, LOCAL, ltr ax
    mov eax, TASK_GONE
    expect V_NP, TASK_GONE, ltr ax
    mov eax, TASK_FREE + 4
    expect V_GP, TASK_FREE + 4, ltr ax
    mov eax, GDT_END
    expect V_GP, GDT_END, ltr ax
    mov eax, TASK_FREE
    expect_nothing ltr ax
    movzx eax, byte [gdt + TASK_FREE + 5]
    check_eq eax, ACCESS_TSS32 | 2
    str eax
    check_eq eax, TASK_FREE
    and byte [gdt + TASK + 5], ~2
    mov eax, TASK
    ltr ax

    group "limit of code"
    mov dword [SCRATCH], 0x0000fbe9     ; JMP to 0x100
    mov byte [SCRATCH + 4], 0
    expect_at V_GP, 0, 0, jmp CODE_SMALL:0
    check_eq [event.cs], CODE_SMALL
    mov dword [SCRATCH], 0x90e8         ; CALL
    mov dword [SCRATCH + 2], 0
    mov byte [SCRATCH], 0xe8
    mov dword [SCRATCH + 1], 0x100
    mov esi, esp
    expect_at V_GP, 0, 0, jmp CODE_SMALL:0
    check_eq [event.sp], esi
    mov byte [SCRATCH], 0xc3            ; RET
    push dword 0x20
    expect_at V_GP, 0, 0, jmp CODE_SMALL:0
    pop eax
    mov word [SCRATCH], 0x7f74          ; JZ
    cmp eax, eax
    expect_at V_GP, 0, 0, jmp CODE_SMALL:0
    mov eax, 0x20
    mov word [SCRATCH], 0xe0ff          ; JMP EAX
    expect_at V_GP, 0, 0, jmp CODE_SMALL:0
    mov byte [SCRATCH + 0x1f], 0x90     ; the last byte is fine, the next is not
    expect_at V_GP, 0, 0x20, jmp CODE_SMALL:0x1f
    mov byte [SCRATCH + 0x1f], 0xb8     ; an instruction across the limit
    expect_at V_GP, 0, 0x1f, jmp CODE_SMALL:0x1f
    expect V_GP, 0, jmp CODE_SMALL:0x20
    check_eq [event.cs], CODE32
    expect V_GP, 0, call CODE_SMALL:0x20

    group "data segments at level 3"
    mov eax, BYTES
    user_expect V_GP, BYTES, mov es, eax
    mov eax, DPL2 + 3
    user_expect V_GP, DPL2, mov es, eax
    mov eax, CONFORMING0
    user_run mov es, eax
    mov eax, CODE_R
    user_expect V_GP, CODE_R, mov es, eax
    mov eax, CONFORMING3
    user_run mov es, eax
    mov eax, 0
    user_run mov es, eax
    user_expect V_GP, 0, mov ss, eax
    mov eax, DATA32
    user_expect V_GP, DATA32, mov ss, eax
    mov eax, USER_DATA & ~3
    user_expect V_GP, USER_DATA & ~3, mov ss, eax
    mov eax, USER_DATA
    user_run mov ss, eax
    mov ecx, DATA32
    mov ebx, 7
    user_run lar ebx, ecx
    check_eq ebx, 7
    user_run lsl ebx, ecx
    check_eq ebx, 7
    mov ecx, USER_DATA & ~3
    user_run lsl ebx, ecx
    check_eq ebx, -1
    ; segment registers that level 3 could not have loaded are null there
    call arm_32
    dd USER_DONE, 0, .done, .done, __?LINE?__
    mov eax, DATA32
    mov ds, eax
    mov es, eax
    mov eax, CONFORMING0
    mov fs, eax
    mov eax, USER_DATA
    mov gs, eax
    push dword USER_DATA
    push dword USER_STACK_TOP
    push dword 2
    push dword USER_CODE32
    push dword .outer
    iretd
.outer:
    int USER_DONE
.done:
    call settle_32
    check_eq [event.ds], 0
    check_eq [event.es], 0
    check_eq [event.fs], CONFORMING0
    check_eq [event.gs], USER_DATA
    finish
