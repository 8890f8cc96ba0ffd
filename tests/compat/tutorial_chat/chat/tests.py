"""The chat in a browser, with two tabs."""

import json
import shutil

from channels.testing import ChannelsLiveServerTestCase, WebsocketCommunicator
from django.test import TransactionTestCase
from mysite.asgi import application
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

#: Seconds.
LIMIT = 30


class ChatInABrowser(ChannelsLiveServerTestCase):
    serve_static = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Named, so that Selenium does not look for others to download.
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(option)
        try:
            cls.driver = webdriver.Chrome(options, service)
        except BaseException:
            super().tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.driver.quit()
        super().tearDownClass()

    def setUp(self):
        self.tabs = [self.driver.current_window_handle]
        self.driver.switch_to.new_window("tab")
        self.tabs.append(self.driver.current_window_handle)

    def tearDown(self):
        for tab in self.tabs[1:]:
            self.driver.switch_to.window(tab)
            self.driver.close()
        self.driver.switch_to.window(self.tabs[0])
        self.driver.get("about:blank")

    def test_all_in_a_room_hear_what_one_says(self):
        for tab in (0, 1):
            self.choose(tab, "harbour")
        self.say(0, "ahoy")
        for tab in (0, 1):
            self.wait_for_log(tab, "AnonymousUser: ahoy\n")

    def test_nobody_hears_it_in_another_room(self):
        self.choose(0, "harbour")
        self.choose(1, "lighthouse")
        self.say(0, "for the harbour")
        self.wait_for_log(0, "AnonymousUser: for the harbour\n")
        # Were the first one on its way to here, it would come before the second one.
        self.say(1, "for the lighthouse")
        self.wait_for_log(1, "AnonymousUser: for the lighthouse\n")

    def test_both_kinds_of_consumers_talk(self):
        self.open(0, "harbour/")
        self.open(1, "harbour/sync/")
        self.say(0, "hello")
        for tab in (0, 1):
            self.wait_for_log(tab, "AnonymousUser: hello\n")
        self.say(1, "hello yourself")
        for tab in (0, 1):
            self.wait_for_log(tab, "AnonymousUser: hello\nAnonymousUser: hello yourself\n")

    def choose(self, tab, room):
        """Enter a room by the page that asks for one."""
        self.driver.switch_to.window(self.tabs[tab])
        self.driver.get(f"{self.live_server_url}/chat/")
        self.driver.find_element(By.ID, "name").send_keys(room + Keys.ENTER)
        self.wait(lambda: self.driver.current_url == f"{self.live_server_url}/chat/{room}/")
        self.wait_until_open()

    def open(self, tab, path):
        self.driver.switch_to.window(self.tabs[tab])
        self.driver.get(f"{self.live_server_url}/chat/{path}")
        self.wait_until_open()

    def wait_until_open(self):
        script = "return document.body && document.body.dataset.state"
        self.wait(lambda: self.driver.execute_script(script) == "open")

    def say(self, tab, words):
        self.driver.switch_to.window(self.tabs[tab])
        self.driver.find_element(By.ID, "text").send_keys(words + Keys.ENTER)

    def wait_for_log(self, tab, log):
        self.driver.switch_to.window(self.tabs[tab])
        script = "return document.querySelector('#log').value"
        self.wait(lambda: self.driver.execute_script(script))
        self.wait(lambda: self.driver.execute_script(script) == log)

    def wait(self, condition):
        WebDriverWait(self.driver, LIMIT, poll_frequency=0.05).until(lambda _: condition())


class ChatByCommunicators(TransactionTestCase):
    async def test_only_pages_of_this_site(self):
        for origin, allowed in (("http://localhost", True), ("http://elsewhere.example", False)):
            page = WebsocketCommunicator(application, "/ws/chat/harbour/", [(b"origin", origin.encode())])
            connected, _ = await page.connect(timeout=LIMIT)
            self.assertEqual(connected, allowed)
            if connected:
                await page.send_to(text_data=json.dumps({"said": "ahoy"}))
                answer = json.loads(await page.receive_from(timeout=LIMIT))
                self.assertEqual(answer, {"said": "ahoy", "by": "AnonymousUser"})
            await page.disconnect()
