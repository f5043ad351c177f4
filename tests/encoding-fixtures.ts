/** A broad table of encodings for the decoder's own tests, independent of the instruction definitions. */
import type { EncodedInstruction } from "../src/isa/decode-table.ts";

const rows = `
add lock: 00 /r Eb,Gb; 01 /r Ev,Gv; 02 /r Gb,Eb; 03 /r Gv,Ev; 04 ib AL,Ib; 05 iz rAX,Iz; 80 /0 ib Eb,Ib; 81 /0 iz Ev,Iz; i64 82 /0 ib Eb,Ib; 83 /0 ib Ev,Ibs
or lock: 08 /r Eb,Gb; 09 /r Ev,Gv; 0A /r Gb,Eb; 0B /r Gv,Ev; 0C ib AL,Ib; 0D iz rAX,Iz; 80 /1 ib Eb,Ib; 81 /1 iz Ev,Iz; i64 82 /1 ib Eb,Ib; 83 /1 ib Ev,Ibs
adc lock: 10 /r Eb,Gb; 11 /r Ev,Gv; 12 /r Gb,Eb; 13 /r Gv,Ev; 14 ib AL,Ib; 15 iz rAX,Iz; 80 /2 ib Eb,Ib; 81 /2 iz Ev,Iz; i64 82 /2 ib Eb,Ib; 83 /2 ib Ev,Ibs
sbb lock: 18 /r Eb,Gb; 19 /r Ev,Gv; 1A /r Gb,Eb; 1B /r Gv,Ev; 1C ib AL,Ib; 1D iz rAX,Iz; 80 /3 ib Eb,Ib; 81 /3 iz Ev,Iz; i64 82 /3 ib Eb,Ib; 83 /3 ib Ev,Ibs
and lock: 20 /r Eb,Gb; 21 /r Ev,Gv; 22 /r Gb,Eb; 23 /r Gv,Ev; 24 ib AL,Ib; 25 iz rAX,Iz; 80 /4 ib Eb,Ib; 81 /4 iz Ev,Iz; i64 82 /4 ib Eb,Ib; 83 /4 ib Ev,Ibs
sub lock: 28 /r Eb,Gb; 29 /r Ev,Gv; 2A /r Gb,Eb; 2B /r Gv,Ev; 2C ib AL,Ib; 2D iz rAX,Iz; 80 /5 ib Eb,Ib; 81 /5 iz Ev,Iz; i64 82 /5 ib Eb,Ib; 83 /5 ib Ev,Ibs
xor lock: 30 /r Eb,Gb; 31 /r Ev,Gv; 32 /r Gb,Eb; 33 /r Gv,Ev; 34 ib AL,Ib; 35 iz rAX,Iz; 80 /6 ib Eb,Ib; 81 /6 iz Ev,Iz; i64 82 /6 ib Eb,Ib; 83 /6 ib Ev,Ibs
cmp: 38 /r Eb,Gb; 39 /r Ev,Gv; 3A /r Gb,Eb; 3B /r Gv,Ev; 3C ib AL,Ib; 3D iz rAX,Iz; 80 /7 ib Eb,Ib; 81 /7 iz Ev,Iz; i64 82 /7 ib Eb,Ib; 83 /7 ib Ev,Ibs
push: i64 06 ES; i64 0E CS; i64 16 SS; i64 1E DS; d64 50+r Zv; d64 68 iz Iz; d64 6A ib Ibs; d64 0F A0 FS; d64 0F A8 GS; d64 FF /6 Ev
pop: i64 07 ES; i64 17 SS; i64 1F DS; d64 58+r Zv; d64 0F A1 FS; d64 0F A9 GS; d64 8F /0 Ev
daa: i64 27
das: i64 2F
aaa: i64 37
aas: i64 3F
inc lock: i64 40+r Zv; FE /0 Eb; FF /0 Ev
dec lock: i64 48+r Zv; FE /1 Eb; FF /1 Ev
pusha/pushad/-: i64 60
popa/popad/-: i64 61
bound: i64 62 /r Gv,Ma
arpl: i64 63 /r Ew,Gw
movsxd: o64 63 /r Gv,Ez
imul: 69 /r iz Gv,Ev,Iz; 6B /r ib Gv,Ev,Ibs; 0F AF /r Gv,Ev; F6 /5 Eb; F7 /5 Ev
insb: 6C Yb,DX
insw/insd/insd: 6D Yz,DX
outsb: 6E DX,Xb
outsw/outsd/outsd: 6F DX,Xz
jo: f64 70 cb Jb; f64 0F 80 cz Jz
jno: f64 71 cb Jb; f64 0F 81 cz Jz
jb: f64 72 cb Jb; f64 0F 82 cz Jz
jae: f64 73 cb Jb; f64 0F 83 cz Jz
je: f64 74 cb Jb; f64 0F 84 cz Jz
jne: f64 75 cb Jb; f64 0F 85 cz Jz
jbe: f64 76 cb Jb; f64 0F 86 cz Jz
ja: f64 77 cb Jb; f64 0F 87 cz Jz
js: f64 78 cb Jb; f64 0F 88 cz Jz
jns: f64 79 cb Jb; f64 0F 89 cz Jz
jp: f64 7A cb Jb; f64 0F 8A cz Jz
jnp: f64 7B cb Jb; f64 0F 8B cz Jz
jl: f64 7C cb Jb; f64 0F 8C cz Jz
jge: f64 7D cb Jb; f64 0F 8D cz Jz
jle: f64 7E cb Jb; f64 0F 8E cz Jz
jg: f64 7F cb Jb; f64 0F 8F cz Jz
test: 84 /r Eb,Gb; 85 /r Ev,Gv; A8 ib AL,Ib; A9 iz rAX,Iz; F6 /0 ib Eb,Ib; F6 /1 ib Eb,Ib; F7 /0 iz Ev,Iz; F7 /1 iz Ev,Iz
xchg lock: 86 /r Eb,Gb; 87 /r Ev,Gv; 90+r Zv,rAX
mov: 88 /r Eb,Gb; 89 /r Ev,Gv; 8A /r Gb,Eb; 8B /r Gv,Ev; 8C /r Rv/Mw,Sw; 8E /r Sw,Rv/Mw; A0 AL,Ob; A1 rAX,Ov; A2 Ob,AL; A3 Ov,rAX; B0+r ib Zb,Ib; B8+r iv Zv,Iv; C6 /0 ib Eb,Ib; C7 /0 iz Ev,Iz; 0F 20 /r Ry,Cy; 0F 21 /r Ry,Dy; 0F 22 /r Cy,Ry; 0F 23 /r Dy,Ry
lea: 8D /r Gv,M
nop: 90; 0F 1F /r Ev; 0F 19 /r Ev; 0F 1C /r Ev; 0F 1D /r Ev; 0F 1E /r Ev; 0F 18 /4 Ev; 0F 18 /5 Ev; 0F 18 /6 Ev; 0F 18 /7 Ev; 0F 18 /0 Rv; 0F 18 /1 Rv; 0F 18 /2 Rv; 0F 18 /3 Rv; 0F 0D /r Rv
pause: F3 90
cbw/cwde/cdqe: 98
cwd/cdq/cqo: 99
call: i64 9A cp Ap; f64 E8 cz Jz; f64 FF /2 Ev; FF /3 Mp
wait: 9B
pushf/pushfd/pushfq: d64 9C
popf/popfd/popfq: d64 9D
sahf: 9E
lahf: 9F
movsb: A4 Yb,Xb
movsw/movsd/movsq: A5 Yv,Xv
cmpsb: A6 Xb,Yb
cmpsw/cmpsd/cmpsq: A7 Xv,Yv
stosb: AA Yb,AL
stosw/stosd/stosq: AB Yv,rAX
lodsb: AC AL,Xb
lodsw/lodsd/lodsq: AD rAX,Xv
scasb: AE AL,Yb
scasw/scasd/scasq: AF rAX,Yv
rol: C0 /0 ib Eb,Ib; C1 /0 ib Ev,Ib; D0 /0 Eb,1; D1 /0 Ev,1; D2 /0 Eb,CL; D3 /0 Ev,CL
ror: C0 /1 ib Eb,Ib; C1 /1 ib Ev,Ib; D0 /1 Eb,1; D1 /1 Ev,1; D2 /1 Eb,CL; D3 /1 Ev,CL
rcl: C0 /2 ib Eb,Ib; C1 /2 ib Ev,Ib; D0 /2 Eb,1; D1 /2 Ev,1; D2 /2 Eb,CL; D3 /2 Ev,CL
rcr: C0 /3 ib Eb,Ib; C1 /3 ib Ev,Ib; D0 /3 Eb,1; D1 /3 Ev,1; D2 /3 Eb,CL; D3 /3 Ev,CL
shl: C0 /4 ib Eb,Ib; C1 /4 ib Ev,Ib; D0 /4 Eb,1; D1 /4 Ev,1; D2 /4 Eb,CL; D3 /4 Ev,CL
shr: C0 /5 ib Eb,Ib; C1 /5 ib Ev,Ib; D0 /5 Eb,1; D1 /5 Ev,1; D2 /5 Eb,CL; D3 /5 Ev,CL
sal: C0 /6 ib Eb,Ib; C1 /6 ib Ev,Ib; D0 /6 Eb,1; D1 /6 Ev,1; D2 /6 Eb,CL; D3 /6 Ev,CL
sar: C0 /7 ib Eb,Ib; C1 /7 ib Ev,Ib; D0 /7 Eb,1; D1 /7 Ev,1; D2 /7 Eb,CL; D3 /7 Ev,CL
ret: f64 C2 iw Iw; f64 C3
les: i64 C4 /r Gz,Mp
lds: i64 C5 /r Gz,Mp
enter: d64 C8 iw ib Iw,Ib
leave: d64 C9
retf: CA iw Iw; CB
int3: CC
int: CD ib Ib
into: i64 CE
iret/iretd/iretq: CF
aam: i64 D4 ib Ib
aad: i64 D5 ib Ib
salc: i64 D6
xlatb: D7
loopne: f64 E0 cb Jb
loope: f64 E1 cb Jb
loop: f64 E2 cb Jb
jcxz: a16 f64 E3 cb Jb
jecxz: a32 f64 E3 cb Jb
jrcxz: a64 f64 E3 cb Jb
in: E4 ib AL,Ib; E5 ib eAX,Ib; EC AL,DX; ED eAX,DX
out: E6 ib Ib,AL; E7 ib Ib,eAX; EE DX,AL; EF DX,eAX
jmp: f64 E9 cz Jz; i64 EA cp Ap; f64 EB cb Jb; f64 FF /4 Ev; FF /5 Mp
int1: F1
hlt: F4
cmc: F5
not lock: F6 /2 Eb; F7 /2 Ev
neg lock: F6 /3 Eb; F7 /3 Ev
mul: F6 /4 Eb; F7 /4 Ev
div: F6 /6 Eb; F7 /6 Ev
idiv: F6 /7 Eb; F7 /7 Ev
clc: F8
stc: F9
cli: FA
sti: FB
cld: FC
std: FD
sldt: 0F 00 /0 Rv/Mw
str: 0F 00 /1 Rv/Mw
lldt: 0F 00 /2 Ew
ltr: 0F 00 /3 Ew
verr: 0F 00 /4 Ew
verw: 0F 00 /5 Ew
sgdt: 0F 01 /0 Ms
sidt: 0F 01 /1 Ms
lgdt: 0F 01 /2 Ms
lidt: 0F 01 /3 Ms
smsw: 0F 01 /4 Rv/Mw
lmsw: 0F 01 /6 Ew
invlpg: 0F 01 /7 M
vmcall: NP 0F 01 C1
vmlaunch: NP 0F 01 C2
vmresume: NP 0F 01 C3
vmxoff: NP 0F 01 C4
monitor: NP 0F 01 C8
mwait: NP 0F 01 C9
clac: NP 0F 01 CA
stac: NP 0F 01 CB
xgetbv: NP 0F 01 D0
xsetbv: NP 0F 01 D1
vmfunc: NP 0F 01 D4
vmrun: 0F 01 D8
vmmcall: 0F 01 D9
vmload: 0F 01 DA
vmsave: 0F 01 DB
stgi: 0F 01 DC
clgi: 0F 01 DD
skinit: 0F 01 DE
invlpga: 0F 01 DF
swapgs: o64 0F 01 F8
rdtscp: 0F 01 F9
lar: 0F 02 /r Gv,Rv/Mw
lsl: 0F 03 /r Gv,Rv/Mw
syscall: 0F 05
clts: 0F 06
sysret: 0F 07
invd: 0F 08
wbinvd: 0F 09
ud2: 0F 0B
ud1: 0F B9 /r Gv,Ev
ud0: 0F FF /r Gv,Ev
prefetch: 0F 0D /0 Mb; 0F 0D /2 Mb; 0F 0D /4 Mb; 0F 0D /5 Mb; 0F 0D /6 Mb; 0F 0D /7 Mb
prefetchw: 0F 0D /1 Mb; 0F 0D /3 Mb
prefetchnta: 0F 18 /0 Mb
prefetcht0: 0F 18 /1 Mb
prefetcht1: 0F 18 /2 Mb
prefetcht2: 0F 18 /3 Mb
endbr64: F3 0F 1E FA
endbr32: F3 0F 1E FB
wrmsr: 0F 30
rdtsc: 0F 31
rdmsr: 0F 32
rdpmc: 0F 33
sysenter: 0F 34
sysexit: 0F 35
cmovo: 0F 40 /r Gv,Ev
cmovno: 0F 41 /r Gv,Ev
cmovb: 0F 42 /r Gv,Ev
cmovae: 0F 43 /r Gv,Ev
cmove: 0F 44 /r Gv,Ev
cmovne: 0F 45 /r Gv,Ev
cmovbe: 0F 46 /r Gv,Ev
cmova: 0F 47 /r Gv,Ev
cmovs: 0F 48 /r Gv,Ev
cmovns: 0F 49 /r Gv,Ev
cmovp: 0F 4A /r Gv,Ev
cmovnp: 0F 4B /r Gv,Ev
cmovl: 0F 4C /r Gv,Ev
cmovge: 0F 4D /r Gv,Ev
cmovle: 0F 4E /r Gv,Ev
cmovg: 0F 4F /r Gv,Ev
seto: 0F 90 /r Eb
setno: 0F 91 /r Eb
setb: 0F 92 /r Eb
setae: 0F 93 /r Eb
sete: 0F 94 /r Eb
setne: 0F 95 /r Eb
setbe: 0F 96 /r Eb
seta: 0F 97 /r Eb
sets: 0F 98 /r Eb
setns: 0F 99 /r Eb
setp: 0F 9A /r Eb
setnp: 0F 9B /r Eb
setl: 0F 9C /r Eb
setge: 0F 9D /r Eb
setle: 0F 9E /r Eb
setg: 0F 9F /r Eb
vmread: f64 NP 0F 78 /r Ey,Gy
vmwrite: f64 NP 0F 79 /r Gy,Ey
cpuid: 0F A2
bt: 0F A3 /r Ev,Gv; 0F BA /4 ib Ev,Ib
bts lock: 0F AB /r Ev,Gv; 0F BA /5 ib Ev,Ib
btr lock: 0F B3 /r Ev,Gv; 0F BA /6 ib Ev,Ib
btc lock: 0F BB /r Ev,Gv; 0F BA /7 ib Ev,Ib
shld: 0F A4 /r ib Ev,Gv,Ib; 0F A5 /r Ev,Gv,CL
shrd: 0F AC /r ib Ev,Gv,Ib; 0F AD /r Ev,Gv,CL
rsm: 0F AA
fxsave: W0 NP 0F AE /0 Mfxsave
fxsave64: REX.W NP 0F AE /0 Mfxsave
fxrstor: W0 NP 0F AE /1 Mfxsave
fxrstor64: REX.W NP 0F AE /1 Mfxsave
ldmxcsr: NP 0F AE /2 Md
stmxcsr: NP 0F AE /3 Md
xsave: W0 NP 0F AE /4 Mxsave
xsave64: REX.W NP 0F AE /4 Mxsave
xrstor: W0 NP 0F AE /5 Mxsave
xrstor64: REX.W NP 0F AE /5 Mxsave
xsaveopt: W0 NP 0F AE /6 Mxsave
xsaveopt64: REX.W NP 0F AE /6 Mxsave
clflush: NP 0F AE /7 Mb
clflushopt: 66 0F AE /7 Mb
clwb: 66 0F AE /6 Mb
lfence: NP 0F AE E8+i
mfence: NP 0F AE F0+i
sfence: NP 0F AE F8+i
rdfsbase: o64 F3 0F AE /0 Ry
rdgsbase: o64 F3 0F AE /1 Ry
wrfsbase: o64 F3 0F AE /2 Ry
wrgsbase: o64 F3 0F AE /3 Ry
cmpxchg lock: 0F B0 /r Eb,Gb; 0F B1 /r Ev,Gv
lss: 0F B2 /r Gv,Mp
lfs: 0F B4 /r Gv,Mp
lgs: 0F B5 /r Gv,Mp
movzx: 0F B6 /r Gv,Eb; 0F B7 /r Gv,Ew
movsx: 0F BE /r Gv,Eb; 0F BF /r Gv,Ew
popcnt: F3 0F B8 /r Gv,Ev
bsf: 0F BC /r Gv,Ev
bsr: 0F BD /r Gv,Ev
tzcnt: F3 0F BC /r Gv,Ev
lzcnt: F3 0F BD /r Gv,Ev
xadd lock: 0F C0 /r Eb,Gb; 0F C1 /r Ev,Gv
movnti: NP 0F C3 /r My,Gy
cmpxchg8b lock: 0F C7 /1 Mq
cmpxchg16b lock: REX.W 0F C7 /1 Mdq
vmptrld: NP 0F C7 /6 Mq
vmclear: 66 0F C7 /6 Mq
vmxon: F3 0F C7 /6 Mq
vmptrst: NP 0F C7 /7 Mq
rdrand: NFx 0F C7 /6 Rv
rdseed: NFx 0F C7 /7 Rv
rdpid: F3 0F C7 /7 Ry
xsavec: W0 NP 0F C7 /4 Mxsave
xsavec64: REX.W NP 0F C7 /4 Mxsave
xsaves: W0 NP 0F C7 /5 Mxsave
xsaves64: REX.W NP 0F C7 /5 Mxsave
xrstors: W0 NP 0F C7 /3 Mxsave
xrstors64: REX.W NP 0F C7 /3 Mxsave
bswap: 0F C8+r Zv
invept: i64 66 0F 38 80 /r Gd,Mdq; o64 66 0F 38 80 /r Gq,Mdq
invvpid: i64 66 0F 38 81 /r Gd,Mdq; o64 66 0F 38 81 /r Gq,Mdq
invpcid: i64 66 0F 38 82 /r Gd,Mdq; o64 66 0F 38 82 /r Gq,Mdq
movbe: NFx 0F 38 F0 /r Gv,Mv; NFx 0F 38 F1 /r Mv,Gv
crc32: F2 0F 38 F0 /r Gy,Eb; F2 0F 38 F1 /r Gy,Ev
adcx: 66 0F 38 F6 /r Gy,Ey
adox: F3 0F 38 F6 /r Gy,Ey
andn: VEX.LZ.NP.0F38 F2 /r Gy,By,Ey
blsr: VEX.LZ.NP.0F38 F3 /1 By,Ey
blsmsk: VEX.LZ.NP.0F38 F3 /2 By,Ey
blsi: VEX.LZ.NP.0F38 F3 /3 By,Ey
bzhi: VEX.LZ.NP.0F38 F5 /r Gy,Ey,By
pext: VEX.LZ.F3.0F38 F5 /r Gy,By,Ey
pdep: VEX.LZ.F2.0F38 F5 /r Gy,By,Ey
mulx: VEX.LZ.F2.0F38 F6 /r Gy,By,Ey
bextr: VEX.LZ.NP.0F38 F7 /r Gy,Ey,By
sarx: VEX.LZ.F3.0F38 F7 /r Gy,Ey,By
shlx: VEX.LZ.66.0F38 F7 /r Gy,Ey,By
shrx: VEX.LZ.F2.0F38 F7 /r Gy,Ey,By
rorx: VEX.LZ.F2.0F3A F0 /r ib Gy,Ey,Ib
fadd: D8 /0 Md; DC /0 Mq; D8 C0+i ST(0),ST(i); DC C0+i ST(i),ST(0)
fmul: D8 /1 Md; DC /1 Mq; D8 C8+i ST(0),ST(i); DC C8+i ST(i),ST(0)
fcom: D8 /2 Md; DC /2 Mq; D8 D0+i ST(0),ST(i); DC D0+i ST(0),ST(i)
fcomp: D8 /3 Md; DC /3 Mq; D8 D8+i ST(0),ST(i); DC D8+i ST(0),ST(i); DE D0+i ST(0),ST(i)
fsub: D8 /4 Md; DC /4 Mq; D8 E0+i ST(0),ST(i); DC E8+i ST(i),ST(0)
fsubr: D8 /5 Md; DC /5 Mq; D8 E8+i ST(0),ST(i); DC E0+i ST(i),ST(0)
fdiv: D8 /6 Md; DC /6 Mq; D8 F0+i ST(0),ST(i); DC F8+i ST(i),ST(0)
fdivr: D8 /7 Md; DC /7 Mq; D8 F8+i ST(0),ST(i); DC F0+i ST(i),ST(0)
fld: D9 /0 Md; DD /0 Mq; DB /5 Mt; D9 C0+i ST(i)
fst: D9 /2 Md; DD /2 Mq; DD D0+i ST(i)
fstp: D9 /3 Md; DD /3 Mq; DB /7 Mt; DD D8+i ST(i); DF D0+i ST(i); DF D8+i ST(i)
fstpnce: D9 D8+i ST(i)
fxch: D9 C8+i ST(0),ST(i); DD C8+i ST(0),ST(i); DF C8+i ST(0),ST(i)
fnop: D9 D0
fldenv: D9 /4 Mfenv
fldcw: D9 /5 Mw
fnstenv: D9 /6 Mfenv
fnstcw: D9 /7 Mw
fchs: D9 E0
fabs: D9 E1
ftst: D9 E4
fxam: D9 E5
fld1: D9 E8
fldl2t: D9 E9
fldl2e: D9 EA
fldpi: D9 EB
fldlg2: D9 EC
fldln2: D9 ED
fldz: D9 EE
f2xm1: D9 F0
fyl2x: D9 F1
fptan: D9 F2
fpatan: D9 F3
fxtract: D9 F4
fprem1: D9 F5
fdecstp: D9 F6
fincstp: D9 F7
fprem: D9 F8
fyl2xp1: D9 F9
fsqrt: D9 FA
fsincos: D9 FB
frndint: D9 FC
fscale: D9 FD
fsin: D9 FE
fcos: D9 FF
fiadd: DA /0 Md; DE /0 Mw
fimul: DA /1 Md; DE /1 Mw
ficom: DA /2 Md; DE /2 Mw
ficomp: DA /3 Md; DE /3 Mw
fisub: DA /4 Md; DE /4 Mw
fisubr: DA /5 Md; DE /5 Mw
fidiv: DA /6 Md; DE /6 Mw
fidivr: DA /7 Md; DE /7 Mw
fcmovb: DA C0+i ST(0),ST(i)
fcmove: DA C8+i ST(0),ST(i)
fcmovbe: DA D0+i ST(0),ST(i)
fcmovu: DA D8+i ST(0),ST(i)
fucompp: DA E9
fcmovnb: DB C0+i ST(0),ST(i)
fcmovne: DB C8+i ST(0),ST(i)
fcmovnbe: DB D0+i ST(0),ST(i)
fcmovnu: DB D8+i ST(0),ST(i)
fild: DB /0 Md; DF /0 Mw; DF /5 Mq
fisttp: DB /1 Md; DD /1 Mq; DF /1 Mw
fist: DB /2 Md; DF /2 Mw
fistp: DB /3 Md; DF /3 Mw; DF /7 Mq
fneni: DB E0
fndisi: DB E1
fnclex: DB E2
fninit: DB E3
fnsetpm: DB E4
fucomi: DB E8+i ST(0),ST(i)
fcomi: DB F0+i ST(0),ST(i)
frstor: DD /4 Mfsave
fnsave: DD /6 Mfsave
fnstsw: DD /7 Mw; DF E0 AX
ffree: DD C0+i ST(i)
fucom: DD E0+i ST(0),ST(i)
fucomp: DD E8+i ST(0),ST(i)
faddp: DE C0+i ST(i),ST(0)
fmulp: DE C8+i ST(i),ST(0)
fcompp: DE D9
fsubrp: DE E0+i ST(i),ST(0)
fsubp: DE E8+i ST(i),ST(0)
fdivrp: DE F0+i ST(i),ST(0)
fdivp: DE F8+i ST(i),ST(0)
ffreep: DF C0+i ST(i)
fbld: DF /4 Mt
fbstp: DF /6 Mt
fucomip: DF E8+i ST(0),ST(i)
fcomip: DF F0+i ST(0),ST(i)
movups: NP 0F 10 /r Vps,Wps; NP 0F 11 /r Wps,Vps
movupd: 66 0F 10 /r Vpd,Wpd; 66 0F 11 /r Wpd,Vpd
movss: F3 0F 10 /r Vss,Wss; F3 0F 11 /r Wss,Vss
movsd: F2 0F 10 /r Vsd,Wsd; F2 0F 11 /r Wsd,Vsd
movlps: NP 0F 12 /r Vq,Mq; NP 0F 13 /r Mq,Vq
movlpd: 66 0F 12 /r Vq,Mq; 66 0F 13 /r Mq,Vq
movhlps: NP 0F 12 /r Vq,Uq
movhps: NP 0F 16 /r Vq,Mq; NP 0F 17 /r Mq,Vq
movhpd: 66 0F 16 /r Vq,Mq; 66 0F 17 /r Mq,Vq
movlhps: NP 0F 16 /r Vq,Uq
movddup: F2 0F 12 /r Vq,Wq
movsldup: F3 0F 12 /r Vdq,Wdq
movshdup: F3 0F 16 /r Vdq,Wdq
unpcklps: NP 0F 14 /r Vps,Wps
unpcklpd: 66 0F 14 /r Vpd,Wpd
unpckhps: NP 0F 15 /r Vps,Wps
unpckhpd: 66 0F 15 /r Vpd,Wpd
movaps: NP 0F 28 /r Vps,Wps; NP 0F 29 /r Wps,Vps
movapd: 66 0F 28 /r Vpd,Wpd; 66 0F 29 /r Wpd,Vpd
cvtpi2ps: NP 0F 2A /r Vps,Qpi
cvtpi2pd: 66 0F 2A /r Vpd,Qpi
cvtsi2ss: F3 0F 2A /r Vss,Ey
cvtsi2sd: F2 0F 2A /r Vsd,Ey
movntps: NP 0F 2B /r Mps,Vps
movntpd: 66 0F 2B /r Mpd,Vpd
cvttps2pi: NP 0F 2C /r Ppi,Wq
cvttpd2pi: 66 0F 2C /r Ppi,Wpd
cvttss2si: F3 0F 2C /r Gy,Wss
cvttsd2si: F2 0F 2C /r Gy,Wsd
cvtps2pi: NP 0F 2D /r Ppi,Wq
cvtpd2pi: 66 0F 2D /r Ppi,Wpd
cvtss2si: F3 0F 2D /r Gy,Wss
cvtsd2si: F2 0F 2D /r Gy,Wsd
ucomiss: NP 0F 2E /r Vss,Wss
ucomisd: 66 0F 2E /r Vsd,Wsd
comiss: NP 0F 2F /r Vss,Wss
comisd: 66 0F 2F /r Vsd,Wsd
movmskps: NP 0F 50 /r Gy,Ups
movmskpd: 66 0F 50 /r Gy,Upd
pmovmskb: NP 0F D7 /r Gy,Nq; 66 0F D7 /r Gy,Udq
arith: 51 sqrt; 58 add; 59 mul; 5C sub; 5D min; 5E div; 5F max
rsqrtps: NP 0F 52 /r Vps,Wps
rsqrtss: F3 0F 52 /r Vss,Wss
rcpps: NP 0F 53 /r Vps,Wps
rcpss: F3 0F 53 /r Vss,Wss
andps: NP 0F 54 /r Vps,Wps
andpd: 66 0F 54 /r Vpd,Wpd
andnps: NP 0F 55 /r Vps,Wps
andnpd: 66 0F 55 /r Vpd,Wpd
orps: NP 0F 56 /r Vps,Wps
orpd: 66 0F 56 /r Vpd,Wpd
xorps: NP 0F 57 /r Vps,Wps
xorpd: 66 0F 57 /r Vpd,Wpd
cvtps2pd: NP 0F 5A /r Vpd,Wq
cvtpd2ps: 66 0F 5A /r Vps,Wpd
cvtss2sd: F3 0F 5A /r Vsd,Wss
cvtsd2ss: F2 0F 5A /r Vss,Wsd
cvtdq2ps: NP 0F 5B /r Vps,Wdq
cvtps2dq: 66 0F 5B /r Vdq,Wps
cvttps2dq: F3 0F 5B /r Vdq,Wps
mmx: 60 punpcklbw; 61 punpcklwd; 62 punpckldq; 63 packsswb; 64 pcmpgtb; 65 pcmpgtw; 66 pcmpgtd; 67 packuswb; 68 punpckhbw; 69 punpckhwd; 6A punpckhdq; 6B packssdw; 74 pcmpeqb; 75 pcmpeqw; 76 pcmpeqd; D1 psrlw; D2 psrld; D3 psrlq; D4 paddq; D5 pmullw; D8 psubusb; D9 psubusw; DA pminub; DB pand; DC paddusb; DD paddusw; DE pmaxub; DF pandn; E0 pavgb; E1 psraw; E2 psrad; E3 pavgw; E4 pmulhuw; E5 pmulhw; E8 psubsb; E9 psubsw; EA pminsw; EB por; EC paddsb; ED paddsw; EE pmaxsw; EF pxor; F1 psllw; F2 pslld; F3 psllq; F4 pmuludq; F5 pmaddwd; F6 psadbw; F8 psubb; F9 psubw; FA psubd; FB psubq; FC paddb; FD paddw; FE paddd
punpcklqdq: 66 0F 6C /r Vdq,Wdq
punpckhqdq: 66 0F 6D /r Vdq,Wdq
movd: W0 NP 0F 6E /r Pq,Ey; W0 66 0F 6E /r Vdq,Ey; W0 NP 0F 7E /r Ey,Pq; W0 66 0F 7E /r Ey,Vdq
movq: REX.W NP 0F 6E /r Pq,Ey; REX.W 66 0F 6E /r Vdq,Ey; REX.W NP 0F 7E /r Ey,Pq; REX.W 66 0F 7E /r Ey,Vdq; NP 0F 6F /r Pq,Qq; NP 0F 7F /r Qq,Pq; F3 0F 7E /r Vq,Wq; 66 0F D6 /r Wq,Vq
movdqa: 66 0F 6F /r Vdq,Wdq; 66 0F 7F /r Wdq,Vdq
movdqu: F3 0F 6F /r Vdq,Wdq; F3 0F 7F /r Wdq,Vdq
pshufw: NP 0F 70 /r ib Pq,Qq,Ib
pshufd: 66 0F 70 /r ib Vdq,Wdq,Ib
pshufhw: F3 0F 70 /r ib Vdq,Wdq,Ib
pshuflw: F2 0F 70 /r ib Vdq,Wdq,Ib
psrlw: NP 0F 71 /2 ib Nq,Ib; 66 0F 71 /2 ib Udq,Ib
psraw: NP 0F 71 /4 ib Nq,Ib; 66 0F 71 /4 ib Udq,Ib
psllw: NP 0F 71 /6 ib Nq,Ib; 66 0F 71 /6 ib Udq,Ib
psrld: NP 0F 72 /2 ib Nq,Ib; 66 0F 72 /2 ib Udq,Ib
psrad: NP 0F 72 /4 ib Nq,Ib; 66 0F 72 /4 ib Udq,Ib
pslld: NP 0F 72 /6 ib Nq,Ib; 66 0F 72 /6 ib Udq,Ib
psrlq: NP 0F 73 /2 ib Nq,Ib; 66 0F 73 /2 ib Udq,Ib
psrldq: 66 0F 73 /3 ib Udq,Ib
psllq: NP 0F 73 /6 ib Nq,Ib; 66 0F 73 /6 ib Udq,Ib
pslldq: 66 0F 73 /7 ib Udq,Ib
emms: NP 0F 77
haddpd: 66 0F 7C /r Vpd,Wpd
haddps: F2 0F 7C /r Vps,Wps
hsubpd: 66 0F 7D /r Vpd,Wpd
hsubps: F2 0F 7D /r Vps,Wps
cmpps: NP 0F C2 /r ib Vps,Wps,Ib
cmppd: 66 0F C2 /r ib Vpd,Wpd,Ib
cmpss: F3 0F C2 /r ib Vss,Wss,Ib
cmpsd: F2 0F C2 /r ib Vsd,Wsd,Ib
pinsrw: NP 0F C4 /r ib Pq,Ry/Mw,Ib; 66 0F C4 /r ib Vdq,Ry/Mw,Ib
pextrw: NP 0F C5 /r ib Gy,Nq,Ib; 66 0F C5 /r ib Gy,Udq,Ib; 66 0F 3A 15 /r ib Ry/Mw,Vdq,Ib
shufps: NP 0F C6 /r ib Vps,Wps,Ib
shufpd: 66 0F C6 /r ib Vpd,Wpd,Ib
addsubpd: 66 0F D0 /r Vpd,Wpd
addsubps: F2 0F D0 /r Vps,Wps
movq2dq: F3 0F D6 /r Vdq,Nq
movdq2q: F2 0F D6 /r Pq,Uq
cvttpd2dq: 66 0F E6 /r Vdq,Wpd
cvtdq2pd: F3 0F E6 /r Vpd,Wq
cvtpd2dq: F2 0F E6 /r Vdq,Wpd
movntq: NP 0F E7 /r Mq,Pq
movntdq: 66 0F E7 /r Mdq,Vdq
lddqu: F2 0F F0 /r Vdq,Mdq
maskmovq: NP 0F F7 /r Pq,Nq
maskmovdqu: 66 0F F7 /r Vdq,Udq
ssse3: 00 pshufb; 01 phaddw; 02 phaddd; 03 phaddsw; 04 pmaddubsw; 05 phsubw; 06 phsubd; 07 phsubsw; 08 psignb; 09 psignw; 0A psignd; 0B pmulhrsw; 1C pabsb; 1D pabsw; 1E pabsd
palignr: NP 0F 3A 0F /r ib Pq,Qq,Ib; 66 0F 3A 0F /r ib Vdq,Wdq,Ib
pblendvb: 66 0F 38 10 /r Vdq,Wdq
blendvps: 66 0F 38 14 /r Vdq,Wdq
blendvpd: 66 0F 38 15 /r Vdq,Wdq
sse4: 17 ptest; 28 pmuldq; 29 pcmpeqq; 2B packusdw; 37 pcmpgtq; 38 pminsb; 39 pminsd; 3A pminuw; 3B pminud; 3C pmaxsb; 3D pmaxsd; 3E pmaxuw; 3F pmaxud; 40 pmulld; 41 phminposuw; DB aesimc; DC aesenc; DD aesenclast; DE aesdec; DF aesdeclast
pmovsxbw: 66 0F 38 20 /r Vdq,Udq/Mq
pmovsxbd: 66 0F 38 21 /r Vdq,Udq/Md
pmovsxbq: 66 0F 38 22 /r Vdq,Udq/Mw
pmovsxwd: 66 0F 38 23 /r Vdq,Udq/Mq
pmovsxwq: 66 0F 38 24 /r Vdq,Udq/Md
pmovsxdq: 66 0F 38 25 /r Vdq,Udq/Mq
pmovzxbw: 66 0F 38 30 /r Vdq,Udq/Mq
pmovzxbd: 66 0F 38 31 /r Vdq,Udq/Md
pmovzxbq: 66 0F 38 32 /r Vdq,Udq/Mw
pmovzxwd: 66 0F 38 33 /r Vdq,Udq/Mq
pmovzxwq: 66 0F 38 34 /r Vdq,Udq/Md
pmovzxdq: 66 0F 38 35 /r Vdq,Udq/Mq
movntdqa: 66 0F 38 2A /r Vdq,Mdq
roundps: 66 0F 3A 08 /r ib Vps,Wps,Ib
roundpd: 66 0F 3A 09 /r ib Vpd,Wpd,Ib
roundss: 66 0F 3A 0A /r ib Vss,Wss,Ib
roundsd: 66 0F 3A 0B /r ib Vsd,Wsd,Ib
blendps: 66 0F 3A 0C /r ib Vps,Wps,Ib
blendpd: 66 0F 3A 0D /r ib Vpd,Wpd,Ib
pblendw: 66 0F 3A 0E /r ib Vdq,Wdq,Ib
pextrb: 66 0F 3A 14 /r ib Ry/Mb,Vdq,Ib
pextrd: W0 66 0F 3A 16 /r ib Ed,Vdq,Ib
pextrq: REX.W 66 0F 3A 16 /r ib Eq,Vdq,Ib
extractps: 66 0F 3A 17 /r ib Ry/Md,Vdq,Ib
pinsrb: 66 0F 3A 20 /r ib Vdq,Ry/Mb,Ib
insertps: 66 0F 3A 21 /r ib Vdq,Udq/Md,Ib
pinsrd: W0 66 0F 3A 22 /r ib Vdq,Ed,Ib
pinsrq: REX.W 66 0F 3A 22 /r ib Vdq,Eq,Ib
dpps: 66 0F 3A 40 /r ib Vps,Wps,Ib
dppd: 66 0F 3A 41 /r ib Vpd,Wpd,Ib
mpsadbw: 66 0F 3A 42 /r ib Vdq,Wdq,Ib
pclmulqdq: 66 0F 3A 44 /r ib Vdq,Wdq,Ib
pcmpestrm: 66 0F 3A 60 /r ib Vdq,Wdq,Ib
pcmpestri: 66 0F 3A 61 /r ib Vdq,Wdq,Ib
pcmpistrm: 66 0F 3A 62 /r ib Vdq,Wdq,Ib
pcmpistri: 66 0F 3A 63 /r ib Vdq,Wdq,Ib
aeskeygenassist: 66 0F 3A DF /r ib Vdq,Wdq,Ib
vpaddd: VEX.128.66.0F.WIG FE /r Vx,Hx,Wx; VEX.256.66.0F.WIG FE /r Vx,Hx,Wx
vpblendvb: VEX.128.66.0F3A.W0 4C /r is4 Vx,Hx,Wx,Lx; VEX.256.66.0F3A.W0 4C /r is4 Vx,Hx,Wx,Lx
vaddss: VEX.LIG.F3.0F.WIG 58 /r Vdq,Hdq,Wss
vmovaps: VEX.128.NP.0F.WIG 28 /r Vx,Wx; VEX.256.NP.0F.WIG 28 /r Vx,Wx; VEX.128.NP.0F.WIG 29 /r Wx,Vx; VEX.256.NP.0F.WIG 29 /r Wx,Vx
`;

function expand(head: string, encodings: readonly string[]): EncodedInstruction[] {
  if (head === "arith") {
    return encodings.flatMap((text) => {
      const [opcode, name] = text.split(" ");
      return [
        { name: `${name}ps`, encodings: [`NP 0F ${opcode} /r Vps,Wps`] },
        { name: `${name}pd`, encodings: [`66 0F ${opcode} /r Vpd,Wpd`] },
        { name: `${name}ss`, encodings: [`F3 0F ${opcode} /r Vss,Wss`] },
        { name: `${name}sd`, encodings: [`F2 0F ${opcode} /r Vsd,Wsd`] },
      ];
    });
  }
  if (head === "mmx" || head === "ssse3" || head === "sse4") {
    const map = head === "mmx" ? "0F" : "0F 38";
    return encodings.map((text) => {
      const [opcode, name] = text.split(" ");
      const isShort = name.startsWith("punpckl");
      const mmx = `NP ${map} ${opcode} /r Pq,${isShort ? "Qd" : "Qq"}`;
      return { name, encodings: [...(head === "sse4" ? [] : [mmx]), `66 ${map} ${opcode} /r Vdq,Wdq`] };
    });
  }
  const [mnemonics, lock] = head.split(" ");
  const [at16, at32, at64] = mnemonics.split("/");
  const names = at32 === undefined ? {} : { names: { 16: at16, 32: at32, 64: at64 } };
  return [{ name: at16, encodings, lockable: lock === "lock", ...names }];
}

/** Several entries may share a mnemonic. */
export const encodingFixtures: readonly EncodedInstruction[] = rows
  .trim()
  .split("\n")
  .flatMap((row) => {
    const [head, list] = row.split(": ");
    return expand(head, list.split("; "));
  });
