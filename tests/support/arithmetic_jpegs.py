"""Arithmetic-coded JPEGs of the cat, 40 x 32, of 283 to 519 bytes: no package of the environment writes any.

Pillow wrote them with Huffman codes (quality 30, 4:2:0) and libjpeg-turbo's `jpegtran -arithmetic -copy none` recoded
them; the last one also with `-progressive`.
"""

import base64
from typing import Final

_FILES: Final = {
    "grey": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02>k%7Zed27Zw*D92+1gLMtdGB`8rkJupIGRb^yfRb5+Zc$tA}agcLcU4^xVke;Kft*d8%yve$"
        "z$C;?Br2okP3kU!p04M<g5di<p00saM5C#9*00;pA002J#tt3YWDL%g7Tfjo|B0D^$-~@-5ef!^IW=-)heO88~OM#T3T6ny1?LTw-Ur@"
        "EtakN0x#hvELDKJ*vfQ|R?dC%!7@zcHMi|_kBsCyZxvBd7)biIOseHJJe(q)@q3jS39V2}@Nd}pY<yR<V1YXh+;Y?@Zl^af;|rwU!_oB"
        "?nwzVMWI#Bvqd22W&Kw*BrMOD3ppe5L8}6$9q@Aph9"
    ),
    "colour": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02>k%7Zed27Zw*D92+1gLMtdGB`8rkJupIGRb^yfRb5+Zc$tA}agcLcU4^xVke;Kft*d8%yve$"
        "z$C;?Br2pFhLjfEf9w;LyPAe-"
        ";q;6eqq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@@4J01*fPAOI)>0U`hb5di}c0sqVZ3IGrg1py"
        "Ed1^?Or3<CiG0ucid06ze&Bu57+KEB{vz(VsPI}q2hM@}uN?o<B&#2o9-"
        "ROq)0E!G&~s{ItPb<ss6;;VwZ+)}KFuO+X%2odUgtw~#J5m??4`aV$t)R%XrcOiTCLpuN}mp2H!2=JwMoGH$LhYI&wj0%$X@0XNgw_@&"
        "7+X1Z`TMl6A{{Vu&aOM1gt<LS=`(E3VbB`xuuRG1CWGyFYm(A5G1%%|K^!GIq1fep6CUeNZThzRuQG9hM(B<I&*#"
    ),
    "cmyk": (
        "|JeWT01iQ9Z(?NtWB>pF0095n07C#95)>B{5gQj47aklNASgmBC?zE*Q93;^LSR*8WM5TXTWWZjfogG(b6Z`7wT6(MqpPi}XMnuPx~9j"
        "OsH>#^$p91x03ZM;1VbVKO%VWD5dcdO0RPMY1^^Hc1^?Or4g^C0O#oQ{O8@{r0MJi~cC-HgJv~C*lyCMvK+WX9$xP214gR|K32B+3-"
        "p@h^(TNFMIRa-"
        "A9KX1kY2zCOl%7Qdy{NV~vm{g0LCpfHA1nfk2b$+Z#y~GVZp1L3k3k`zMreML3!rPAtVWzniL|&M%lugr!IXN?d)UAnkpA#Dlt{@X$RX"
        "tZvmoY4`2^TjU0@1bYTQvx0&><R&VDv!q4Ly|Rn&Kw<3d|F&|+(+QQ0`JWkGln(zS}-wg*m7IO{wW1wpkLJHdkxtR3v~#0Qs{&R?~`N-"
        "=R?{QPC*bh~U$f_S>oV}d1F2cIC#ols>YReT^+CrTac*7Wl9?dili6w2B6$h|dcq*yTj*#"
    ),
    "progressive": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV02>k%7Zed27Zw*D92+1gLMtdGB`8rkJupIGRb^yfRb5+Zc$tA}agcLcU4^xVke;Kft*d8%yve$"
        "z$C;?Br2pFhLjfEf9w;LyPAe-"
        ";q;6eqq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@<*zq@@4K01*fPAOI)>0U`hb5di}c0sqVZ1^^HN5dY"
        "c$3<CiG0uTcb0003N_l9ZhTg4Dj+c+sWxrKoL%m4%s1^?Or2mt{A0R;j{B_};5XV-md`L@vtH17ic01#pB@qqu#00a>Q|Jncu0RsU6KL"
        "No1%m4%t1^?Or2mt~C0Y3r2|I7dc5C#9*00;pA00ut-%nhJUbwK~j00a;P|Jncu0RaF3KOqr1%-"
        "R@*2_dLbtmYO?BHlpDuUgD$7EuLYvu?TR6YM+;<6$FD&4<y<djHx03<CiG0ssR5000oO@)9U$|I7dc5e5I+00;pC0RcY{R@wT1|I7dc5"
        "e5I+00;pB0RcY{Aj)O`%m4%s1^?Or2mt{A0Y4A`wv4E!nZbakd9f9JUyrlM0nim*b+p7XcM}KM*cy!r#G9F~bF-"
        "B_P)_inuMU%+w?J3w%aT;|!<Cey1&mqJx%rHsVv+UcqW{?"
    ),
}

ARITHMETIC: Final = {name: base64.b85decode(text) for name, text in _FILES.items()}
"""The files by their colours; SOF9, the last one SOF10."""
