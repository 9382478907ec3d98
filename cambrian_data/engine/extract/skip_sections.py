"""Headings of appendices in many languages: sections whose figures a recipe drops by default.

The data engine that was published skips history; references, links and notes have no prose that
speaks of a picture. Galleries are no appendix. Written as the wikis of each language write them.
"""

from __future__ import annotations

_BY_LANGUAGE = {
    "en": "History|References|See also|External links|Further reading|Notes|Bibliography|Sources"
    "|Citations|Footnotes|Notes and references|Works cited|Literature",
    "de": "Geschichte|Einzelnachweise|Siehe auch|Weblinks|Literatur|Anmerkungen|Quellen|Belege"
    "|Fu\u00dfnoten|Einzelnachweise und Anmerkungen|Anmerkungen und Einzelnachweise",
    "fr": "Histoire|Historique|R\u00e9f\u00e9rences|Voir aussi|Liens externes|Bibliographie|Notes"
    "|Notes et r\u00e9f\u00e9rences|Pour approfondir|Annexes|Articles connexes",
    "es": "Historia|Referencias|V\u00e9ase tambi\u00e9n|Enlaces externos|Bibliograf\u00eda|Notas"
    "|Notas y referencias|Lectura adicional",
    "it": "Storia|Note|Bibliografia|Voci correlate|Altri progetti|Collegamenti esterni",
    "pt": "Hist\u00f3ria|Refer\u00eancias|Ver tamb\u00e9m|Liga\u00e7\u00f5es externas"
    "|Bibliografia|Notas|Notas e refer\u00eancias|Leitura adicional",
    "nl": "Geschiedenis|Referenties|Zie ook|Externe links|Externe link|Literatuur|Bronnen|Noten"
    "|Bronnen, noten en/of referenties",
    "ru": "\u0418\u0441\u0442\u043e\u0440\u0438\u044f"
    "|\u041f\u0440\u0438\u043c\u0435\u0447\u0430\u043d\u0438\u044f"
    "|\u041b\u0438\u0442\u0435\u0440\u0430\u0442\u0443\u0440\u0430|\u0421\u0441\u044b\u043b\u043a\u0438"
    "|\u0421\u043c. \u0442\u0430\u043a\u0436\u0435"
    "|\u0418\u0441\u0442\u043e\u0447\u043d\u0438\u043a\u0438"
    "|\u0421\u043d\u043e\u0441\u043a\u0438",
    "uk": "\u0406\u0441\u0442\u043e\u0440\u0456\u044f"
    "|\u041f\u0440\u0438\u043c\u0456\u0442\u043a\u0438"
    "|\u041b\u0456\u0442\u0435\u0440\u0430\u0442\u0443\u0440\u0430"
    "|\u041f\u043e\u0441\u0438\u043b\u0430\u043d\u043d\u044f"
    "|\u0414\u0438\u0432. \u0442\u0430\u043a\u043e\u0436"
    "|\u0414\u0436\u0435\u0440\u0435\u043b\u0430",
    "pl": "Historia|Przypisy|Bibliografia|Zobacz te\u017c|Linki zewn\u0119trzne|Uwagi",
    "cs": "Historie|Reference|Literatura|Souvisej\u00edc\u00ed \u010dl\u00e1nky"
    "|Extern\u00ed odkazy|Odkazy|Pozn\u00e1mky",
    "sv": "Historia|Historik|Referenser|Se \u00e4ven|Externa l\u00e4nkar|Noter|K\u00e4llor"
    "|Litteratur",
    "da": "Historie|Referencer|Se ogs\u00e5|Eksterne henvisninger|Noter|Kilder|Litteratur",
    "no": "Historie|Referanser|Se ogs\u00e5|Eksterne lenker|Noter|Kilder|Litteratur",
    "fi": "Historia|L\u00e4hteet|Katso my\u00f6s|Aiheesta muualla|Kirjallisuutta|Viitteet",
    "hu": "T\u00f6rt\u00e9nete|T\u00f6rt\u00e9nelem|Jegyzetek|Forr\u00e1sok"
    "|Tov\u00e1bbi inform\u00e1ci\u00f3k|Kapcsol\u00f3d\u00f3 sz\u00f3cikkek",
    "tr": "Tarih\u00e7e|Tarih|Kaynak\u00e7a|Ayr\u0131ca bak\u0131n\u0131z"
    "|D\u0131\u015f ba\u011flant\u0131lar|Notlar",
    "zh": "\u5386\u53f2|\u6b77\u53f2|\u53c2\u8003\u6587\u732e|\u53c3\u8003\u6587\u737b"
    "|\u53c2\u8003\u8d44\u6599|\u53c3\u8003\u8cc7\u6599|\u53c2\u89c1|\u53c3\u898b|\u53c3\u8003"
    "|\u53c2\u8003|\u5916\u90e8\u94fe\u63a5|\u5916\u90e8\u9023\u7d50|\u5916\u90e8\u8fde\u63a5"
    "|\u6ce8\u91ca|\u6ce8\u91cb|\u8a3b\u91cb|\u5ef6\u4f38\u9605\u8bfb|\u5ef6\u4f38\u95b1\u8b80",
    "ja": "\u6b74\u53f2|\u6cbf\u9769"
    "|\u811a\u6ce8|\u6ce8\u91c8|\u51fa\u5178|\u53c2\u8003\u6587\u732e"
    "|\u95a2\u9023\u9805\u76ee|\u5916\u90e8\u30ea\u30f3\u30af",
    "ko": "\uc5ed\uc0ac|\uac01\uc8fc|\uac19\uc774 \ubcf4\uae30|\ucc38\uace0 \ubb38\ud5cc"
    "|\uc678\ubd80 \ub9c1\ud06c|\ucd9c\ucc98|\ucc38\uace0 \uc790\ub8cc",
    "ar": "\u0627\u0644\u062a\u0627\u0631\u064a\u062e|\u062a\u0627\u0631\u064a\u062e"
    "|\u0645\u0631\u0627\u062c\u0639|\u0627\u0644\u0645\u0631\u0627\u062c\u0639"
    "|\u0627\u0646\u0638\u0631 \u0623\u064a\u0636\u0627\u064b"
    "|\u0627\u0646\u0638\u0631 \u0623\u064a\u0636\u064b\u0627"
    "|\u0648\u0635\u0644\u0627\u062a \u062e\u0627\u0631\u062c\u064a\u0629"
    "|\u0645\u0644\u0627\u062d\u0638\u0627\u062a|\u0627\u0644\u0647\u0648\u0627\u0645\u0634",
    "fa": "\u062a\u0627\u0631\u06cc\u062e|\u062a\u0627\u0631\u06cc\u062e\u0686\u0647"
    "|\u0645\u0646\u0627\u0628\u0639|\u067e\u0627\u0646\u0648\u06cc\u0633"
    "|\u062c\u0633\u062a\u0627\u0631\u0647\u0627\u06cc \u0648\u0627\u0628\u0633\u062a\u0647"
    "|\u067e\u06cc\u0648\u0646\u062f \u0628\u0647 \u0628\u06cc\u0631\u0648\u0646",
    "he": "\u05d4\u05d9\u05e1\u05d8\u05d5\u05e8\u05d9\u05d4|\u05d4\u05e2\u05e8\u05d5\u05ea "
    "\u05e9\u05d5\u05dc\u05d9\u05d9\u05dd|\u05e8\u05d0\u05d5 \u05d2\u05dd"
    "|\u05e7\u05d9\u05e9\u05d5\u05e8\u05d9\u05dd \u05d7\u05d9\u05e6\u05d5\u05e0\u05d9\u05d9\u05dd"
    "|\u05dc\u05e7\u05e8\u05d9\u05d0\u05d4 \u05e0\u05d5\u05e1\u05e4\u05ea"
    "|\u05d1\u05d9\u05d0\u05d5\u05e8\u05d9\u05dd",
    "hi": "\u0907\u0924\u093f\u0939\u093e\u0938|\u0938\u0928\u094d\u0926\u0930\u094d\u092d"
    "|\u0938\u0902\u0926\u0930\u094d\u092d|\u0907\u0928\u094d\u0939\u0947\u0902 \u092d\u0940 "
    "\u0926\u0947\u0916\u0947\u0902"
    "|\u092c\u093e\u0939\u0930\u0940 \u0915\u0921\u093c\u093f\u092f\u093e\u0901",
    "vi": "L\u1ecbch s\u1eed|Tham kh\u1ea3o|Xem th\u00eam|Li\u00ean k\u1ebft ngo\u00e0i"
    "|Ch\u00fa th\u00edch|Ghi ch\u00fa",
    "id": "Sejarah|Referensi|Lihat pula|Pranala luar|Catatan|Daftar pustaka|Bacaan lanjutan",
}

SKIP_SECTIONS = tuple(
    dict.fromkeys(name for names in _BY_LANGUAGE.values() for name in names.split("|"))
)
