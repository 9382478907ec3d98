"""Small hand-made pages in the markups of publishing systems, with the figures that they show.

A case is (name, HTML of the article's inside, figures); a figure is (end of its address, caption,
innermost heading or None). `PAGE` puts the inside into a page with prose around.
"""

from __future__ import annotations

Shown = tuple[str, str, str | None]
Case = tuple[str, str, list[Shown]]

PROSE = "The tower stands on a hill above the river and was built of red brick. " * 4
PAGE = (
    "<html><head><title>A tower | The Site</title></head><body><h1>A tower</h1>"
    f"<p>{PROSE}</p>%s<p>{PROSE}</p></body></html>"
)
TINY = "data:image/gif;base64,R0lGODlhAQABAAAAACw="

FIGURES: list[Case] = [
    (
        "gutenberg gallery",
        '<figure class="wp-block-gallery has-nested-images">'
        '<figure class="wp-block-image size-large"><img src="/a.jpg"><figcaption>The gate'
        '</figcaption></figure><figure class="wp-block-image"><img src="/b.jpg"></figure>'
        '<figcaption class="blocks-gallery-caption">Two views</figcaption></figure>',
        [("/a.jpg", "The gate", None), ("/b.jpg", "Two views", None)],
    ),
    (
        "classic gallery",
        '<div class="gallery"><dl class="gallery-item"><dt class="gallery-icon"><a href="/x/">'
        '<img src="/a.jpg" width="150" height="150"></a></dt><dd class="wp-caption-text '
        'gallery-caption">The gate</dd></dl><dl class="gallery-item"><dt class="gallery-icon">'
        '<img src="/b.jpg" width="150" height="150"></dt><dd class="wp-caption-text '
        'gallery-caption">The roof</dd></dl></div>',
        [("/a.jpg", "The gate", None), ("/b.jpg", "The roof", None)],
    ),
    (
        "page builder",
        '<section class="elementor-section"><div class="elementor-widget elementor-widget-image">'
        '<div class="elementor-widget-container"><figure class="wp-caption"><img src="/a.jpg">'
        '<figcaption class="widget-image-caption">The gate</figcaption></figure></div></div>'
        "</section>",
        [("/a.jpg", "The gate", None)],
    ),
    (
        "blogger",
        '<h2>Walls</h2><table class="tr-caption-container"><tbody><tr><td><a href="/a.jpg">'
        '<img src="/a.jpg" width="320"></a></td></tr><tr><td class="tr-caption">The north wall'
        "</td></tr></tbody></table>",
        [("/a.jpg", "The north wall", "Walls")],
    ),
    (
        "substack",
        '<div class="captioned-image-container"><figure><a class="image-link" '
        'href="https://cdn.x.org/image/fetch/f_auto/https%3A%2F%2Fs3.x.org%2Fpublic%2Fa.png">'
        '<div class="image2-inset"><picture><source type="image/webp" srcset="'
        "https://cdn.x.org/w_424,c_limit,f_webp/https%3A%2F%2Fs3.x.org%2Fpublic%2Fa.png 424w, "
        'https://cdn.x.org/w_1456,c_limit,f_webp/https%3A%2F%2Fs3.x.org%2Fpublic%2Fa.png 1456w">'
        '<img src="https://cdn.x.org/w_1456,c_limit/https%3A%2F%2Fs3.x.org%2Fpublic%2Fa.png" '
        'data-attrs="{&quot;src&quot;:&quot;https://s3.x.org/a.png&quot;}"></picture></div></a>'
        '<figcaption class="image-caption">The gate</figcaption></figure></div>',
        [("fetch/f_auto/https%3A%2F%2Fs3.x.org%2Fpublic%2Fa.png", "The gate", None)],
    ),
    (
        "medium",
        '<figure><div role="button"><picture><source srcSet="https://m.org/v2/resize:fit:640/'
        "format:webp/1*abc.png 640w, https://m.org/v2/resize:fit:1400/format:webp/1*abc.png 1400w"
        '" type="image/webp"><img src="https://m.org/v2/resize:fit:700/1*abc.png" width="700">'
        "</picture></div><figcaption>The gate</figcaption></figure>",
        [("resize:fit:1400/format:webp/1*abc.png", "The gate", None)],
    ),
    (
        "ghost",
        '<figure class="kg-card kg-gallery-card kg-card-hascaption"><div class="kg-gallery-row">'
        '<div class="kg-gallery-image"><img src="/a.jpg"></div><div class="kg-gallery-image">'
        '<img src="/b.jpg"></div></div><figcaption>Both gates</figcaption></figure>'
        '<figure class="kg-card kg-bookmark-card"><a class="kg-bookmark-container" href="/post">'
        '<div class="kg-bookmark-title">Another post</div><img src="/preview.jpg"></a>'
        "<figcaption>A preview</figcaption></figure>",
        [("/a.jpg", "Both gates", None), ("/b.jpg", "Both gates", None)],
    ),
    (
        "manual (docutils)",
        '<div class="section" id="walls"><h2>Walls<a class="headerlink" href="#walls">&#182;</a>'
        '</h2><div class="figure align-default" id="id1"><a class="reference internal '
        'image-reference" href="_images/a.png"><img src="_images/a.png"></a><p class="caption">'
        '<span class="caption-number">Fig. 1 </span><span class="caption-text">A wall of <a class='
        '"reference external" href="/brick">brick</a></span></p><div class="legend"><p>Seen from '
        "the north.</p></div></div></div>",
        [("_images/a.png", "Fig. 1 A wall of brick", "Walls")],
    ),
    (
        "paper (LaTeXML)",
        '<section class="ltx_section"><h2 class="ltx_title"><span class="ltx_tag">2 </span>Walls'
        '</h2><figure class="ltx_figure"><div class="ltx_flex_figure"><figure class="ltx_figure '
        'ltx_figure_panel"><img class="ltx_graphics" src="x1.png"><figcaption class="ltx_caption">'
        "(a) North</figcaption></figure><figure class='ltx_figure ltx_figure_panel'><img class="
        '"ltx_graphics" src="x2.png"></figure></div><figcaption class="ltx_caption"><span class='
        '"ltx_tag">Figure 1: </span>Both walls</figcaption></figure></section>',
        [("x1.png", "(a) North", "2 Walls"), ("x2.png", "Figure 1: Both walls", "2 Walls")],
    ),
    (
        "journal (div.fig)",
        '<h2>Results</h2><div class="fig iconblock" id="F1"><div class="figure"><a href="/figure/'
        'F1/"><img class="tileshop" src="/bin/a.jpg" alt="F1"></a></div><div class="icnblk_cntnt">'
        '<div class="caption"><span>Figure 1.</span> <p>Growth of the wall.</p></div></div></div>',
        [("/bin/a.jpg", "Figure 1. Growth of the wall.", "Results")],
    ),
    (
        "journal (figure)",
        '<h2>Results</h2><figure class="fig xbox" id="F1"><h4 class="obj_head">Fig. 1.</h4>'
        '<p class="img-box"><a class="tileshop" href="/v.cgi?a.jpg"><img class="graphic" '
        'src="/blobs/a.jpg"></a></p><figcaption><p>Growth of the wall.</p></figcaption></figure>',
        [("/blobs/a.jpg", "Growth of the wall.", "Results")],
    ),
    (
        "markdown: emphasis below",
        '<h2 id="w"><a href="#w" class="anchor">#</a>Walls</h2><p><img src="/a.png" alt="wall">'
        '</p><p><em>A wall of red brick</em></p><p><img src="/b.png"><br><em>The roof</em></p>',
        [("/a.png", "A wall of red brick", "Walls"), ("/b.png", "The roof", "Walls")],
    ),
    (
        "markdown: a numbered paragraph",
        '<p><img src="/a.png"></p><p>Figure 3: The plan of the tower</p>'
        '<p><img src="/b.png"></p><p>Figures like this one are rare in towers.</p>',
        [("/a.png", "Figure 3: The plan of the tower", None), ("/b.png", "", None)],
    ),
    (
        "lightbox",
        '<a class="image-popup" href="/full/a.jpg"><figure><img src="/a.jpg"><figcaption>The gate'
        "</figcaption></figure></a>",
        [("/a.jpg", "The gate", None)],
    ),
    (
        "amp",
        '<figure><amp-img src="/a.jpg" width="600" height="400" layout="responsive"><noscript>'
        '<img src="/a.jpg" width="600" height="400"></noscript></amp-img><figcaption>The gate'
        "</figcaption></figure>",
        [("/a.jpg", "The gate", None)],
    ),
    (
        "lazy twin in noscript",
        f'<div class="photo"><img class="lazyload" src="{TINY}" data-src="/a.jpg"><noscript>'
        '<img src="/a.jpg"></noscript><div class="photo__caption">The gate</div></div>',
        [("/a.jpg", "The gate", None)],
    ),
    (
        "lazy by names of the site's own",
        f'<figure><img src="{TINY}" data-low-res-src="/a-small.jpg" data-hi-res-src="/a.jpg">'
        '<figcaption>The gate</figcaption></figure><figure><div data-responsive-src="/b.jpg">'
        '</div><figcaption>The roof</figcaption></figure><figure><div style="background-image: '
        "url('/c.jpg')\"></div><figcaption>The hall</figcaption></figure>",
        [("/a.jpg", "The gate", None), ("/b.jpg", "The roof", None), ("/c.jpg", "The hall", None)],
    ),
    (
        "words of placeholders in a name",
        '<figure><img src="/Blank_map_of_towers.png"><figcaption>A map</figcaption></figure>'
        '<figure><img src="/blank.png"><figcaption>Nothing</figcaption></figure>',
        [("/Blank_map_of_towers.png", "A map", None)],
    ),
    (
        "caption as neighbour",
        '<div class="step"><figure><img src="/a.jpg"></figure><figcaption>The gate</figcaption>'
        '</div><div><img src="/b.jpg"><div class="caption">The roof</div><img src="/c.jpg">'
        '<div class="caption">The hall</div></div>',
        [("/a.jpg", "The gate", None), ("/b.jpg", "The roof", None), ("/c.jpg", "The hall", None)],
    ),
    (
        "caption in the row below",
        '<table><tr><td><img src="/a.jpg" width="300"></td></tr><tr><td>The gate of the tower'
        "</td></tr></table>",
        [("/a.jpg", "The gate of the tower", None)],
    ),
    (
        "caption by itemprop",
        '<div itemscope itemtype="http://schema.org/ImageObject"><img itemprop="contentUrl" '
        'src="/a.jpg"><span itemprop="caption">The gate</span></div>',
        [("/a.jpg", "The gate", None)],
    ),
    (
        "aside of the article",
        '<aside class="right"><figure><img src="/a.jpg"><figcaption>The gate</figcaption></figure>'
        '</aside><aside><h3>More towers</h3><ul><li><figure><img src="/t.jpg"><figcaption>Another '
        "tower</figcaption></figure></li></ul></aside>",
        [("/a.jpg", "The gate", None)],
    ),
    (
        "headings of other kinds",
        '<div role="heading" aria-level="2">Walls</div><p>Of brick.</p><section><header><h3>North'
        '</h3></header><figure><img src="/a.jpg"><figcaption>The gate</figcaption></figure>'
        "</section>",
        [("/a.jpg", "The gate", "North")],
    ),
    (
        "right to left",
        '<h2>\u0627\u0644\u0628\u0631\u062c</h2><figure dir="rtl"><img src="/a.jpg"><figcaption>'
        "\u0628\u0631\u062c \u0642\u062f\u064a\u0645</figcaption></figure>",
        [
            (
                "/a.jpg",
                "\u0628\u0631\u062c \u0642\u062f\u064a\u0645",
                "\u0627\u0644\u0628\u0631\u062c",
            )
        ],
    ),
]

WIKI: list[Case] = [
    (
        "packed gallery, nested captions of its own",
        '<h2>Views</h2><ul class="gallery mw-gallery-packed"><li class="gallerycaption">Towers</li>'
        '<li class="gallerybox"><div class="thumb"><span typeof="mw:File"><img src="/a.jpg"></span>'
        '</div><div class="gallerytext">North</div></li><li class="gallerybox"><div class="thumb">'
        '<img src="/b.jpg"></div><div class="gallerytext"></div></li></ul>',
        [("/a.jpg", "North", "Views"), ("/b.jpg", "", "Views")],
    ),
    (
        "several pictures with captions in a thumb",
        '<div class="thumb tright some-template"><div class="thumbinner"><div class="cell">'
        '<div class="thumbimage"><img src="/a.jpg"></div><div class="thumbcaption">The king</div>'
        '</div><div class="cell"><div class="thumbimage"><img src="/b.jpg"></div>'
        '<div class="thumbcaption">The queen</div></div></div></div>',
        [("/a.jpg", "The king", None), ("/b.jpg", "The queen", None)],
    ),
    (
        "mobile placeholders",
        '<section><figure typeof="mw:File/Thumb"><a><noscript><img src="//up.org/thumb/a/ab/A.jpg/'
        '320px-A.jpg"></noscript><span class="lazy-image-placeholder" data-src="//up.org/thumb/a/ab'
        '/A.jpg/320px-A.jpg"></span></a><figcaption>The gate</figcaption></figure></section>',
        [("/a/ab/A.jpg", "The gate", None)],
    ),
    (
        "infobox",
        '<table class="infobox"><tr><th colspan="2">Tower</th></tr><tr><td colspan="2">'
        '<img src="/a.jpg" width="250"><div class="infobox-caption">The gate</div></td></tr>'
        '<tr><td colspan="2"><img src="/b.jpg" width="250"><br>The north wall</td></tr>'
        '<tr><td colspan="2"><img src="/c.jpg" width="250"></td></tr><tr><td colspan="2">'
        'The south wall</td></tr><tr><td colspan="2"><img src="/scale.png" width="220" height="50">'
        "<br>Least concern</td></tr></table>",
        [
            ("/a.jpg", "The gate", None),
            ("/b.jpg", "The north wall", None),
            ("/c.jpg", "The south wall", None),
            ("/scale.png", "", None),
        ],
    ),
    (
        "gallery of a wiki farm",
        f'<div class="wikia-gallery-item"><div class="thumb"><a href="/f/A"><noscript><img src='
        f'"/A.png/revision/latest/scale-to-width-down/185?cb=1"></noscript><img src="{TINY}" '
        'data-src="/A.png/revision/latest/scale-to-width-down/185?cb=1"></a></div>'
        '<div class="lightbox-caption">The gate</div></div>',
        [("/A.png/revision/latest?cb=1", "The gate", None)],
    ),
    (
        "titles in a portable infobox",
        '<aside class="portable-infobox"><h2 class="pi-title">Tower</h2><figure><img src="/a.jpg">'
        "<figcaption>The gate</figcaption></figure><section><h3>Facts</h3></section></aside>"
        '<div class="infobox"><h3>Site</h3><figure><img src="/b.jpg"><figcaption>The hill'
        f"</figcaption></figure></div><p>{PROSE}</p><h2>Walls</h2><figure><img src='/c.jpg'>"
        "<figcaption>The walls</figcaption></figure>",
        [
            ("/a.jpg", "The gate", None),
            ("/b.jpg", "The hill", None),
            ("/c.jpg", "The walls", "Walls"),
        ],
    ),
    (
        "a board with pieces is no picture of a game",
        '<div class="thumb tright"><div class="thumbinner"><div style="position: relative">'
        '<img src="/board.svg">'
        + "".join(
            f'<div style="position:absolute"><img src="/piece{n}.svg" width="26"></div>'
            for n in range(4)
        )
        + '</div><div class="thumbcaption">The king is in check</div></div></div>',
        [],
    ),
]

FURNITURE = [
    *(
        f'<div class="{name}"><figure><img src="/t.jpg"><figcaption>Another tower</figcaption>'
        "</figure></div>"
        for name in (
            *("jp-relatedposts", "most-read", "mostpopular", "readnext", "upnext", "morestories"),
            *("relatedarticles", "trending", "recommended-posts", "article__up-next", "next_story"),
        )
    ),
    '<figure><a href="/other"><img src="/t.jpg"></a><figcaption><a href="/other">Another tower'
    "</a></figcaption></figure>",
    '<h2>You may also like</h2><figure><img src="/t.jpg"><figcaption>Another tower</figcaption>'
    "</figure>",
    '<div class="author-box"><figure><img src="/t.jpg"><figcaption>A. Writer</figcaption></figure>'
    "</div>",
    '<figure class="ad-unit ads"><img src="/t.jpg"><figcaption>Buy</figcaption></figure>',
    '<figure><img src="https://x.org/gif.latex?x%5E2"><figcaption>x</figcaption></figure>',
    f'<figure><img src="{TINY}"><figcaption>Not loaded</figcaption></figure>',
]
